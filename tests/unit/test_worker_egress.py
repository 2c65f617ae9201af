"""What counts as a proof of the exit."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from fleet.errors import WrongExit
from fleet.model import EgressSettings, Paths
from worker.egress import Prover, Unproved, parse_address

EXIT, OTHER, HOST = ip_address("203.0.113.11"), ip_address("203.0.113.12"), ip_address("198.51.100.10")


def prover(root: Path, *host: str, urls: tuple[str, ...] = ("https://nobody.invalid/ip",)) -> Prover:
    """A prover that knows the HOST's addresses from the settings."""
    settings = EgressSettings.model_validate({"urls": urls, "host_addresses": host, "timeout_seconds": 1})
    return Prover(settings, Paths(root=root), root / "none.pem")


@pytest.mark.parametrize("text", ["203.0.113.11", " 203.0.113.11\n", '{"ip": "203.0.113.11"}'])
def test_answers(text: str) -> None:
    """A service answers with the address as text or as JSON."""
    assert parse_address(text) == EXIT


@pytest.mark.parametrize("text", ["", "<html>blocked</html>", "{", '{"origin": "203.0.113.11"}', "999.1.1.1"])
def test_no_answers(text: str) -> None:
    """Anything else is no answer."""
    with pytest.raises(ValueError):
        parse_address(text)


def test_leased_exit(tmp_path: Path) -> None:
    """The leased exit passes, any other address does not."""
    made = prover(tmp_path)
    made.check(EXIT, EXIT)
    with pytest.raises(WrongExit, match=r"sees 203\.0\.113\.12, the leased exit is 203\.0\.113\.11"):
        made.check(OTHER, EXIT)


def test_learning(tmp_path: Path) -> None:
    """An unknown exit is learned only when it is known not to be the host itself."""
    prover(tmp_path, str(HOST)).check(EXIT, None)
    with pytest.raises(WrongExit, match="of this host"):
        prover(tmp_path, str(HOST)).check(HOST, None)
    with pytest.raises(WrongExit, match="unknown"):
        prover(tmp_path).check(EXIT, None)


def test_host_addresses_from_fleet_up(tmp_path: Path) -> None:
    """What `fleet up` saw without a tunnel counts as the host's too."""
    paths = Paths(root=tmp_path)
    paths.host_addresses.parent.mkdir(parents=True)
    paths.host_addresses.write_text(f"{HOST}\n2001:db8:1::10\n")
    with pytest.raises(WrongExit, match="of this host"):
        prover(tmp_path).check(ip_address("2001:db8:1::10"), None)


def test_no_service_answers(tmp_path: Path) -> None:
    """When no service answers, each is named with its reason."""
    urls = ("http://127.0.0.1:1/ip", "http://127.0.0.1:2/ip")
    with pytest.raises(Unproved) as caught:
        prover(tmp_path, urls=urls).seen()
    assert all(url in caught.value.message for url in urls)
