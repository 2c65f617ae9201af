"""What counts as a proof of the exit."""

from __future__ import annotations

import http.server
import socket
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest

from fleet import netctl_api
from fleet.errors import Unproved, WrongExit
from fleet.model import EgressSettings, Paths
from fleet.seen_address import parse_address
from worker.egress import Prover

EXIT, OTHER, HOST = ip_address("203.0.113.11"), ip_address("203.0.113.12"), ip_address("198.51.100.10")


def prover(root: Path, *host: str, urls: tuple[str, ...] = ("https://nobody.invalid/ip",)) -> Prover:
    """A prover that knows the HOST's addresses from the settings."""
    settings = EgressSettings.model_validate(
        {"insecure_http": True, "urls": urls, "host_addresses": host, "timeout_seconds": 1}
    )
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


def _tunnel(exit_v6: str | None, *, carries: bool) -> netctl_api.Tunnel:
    return netctl_api.Tunnel(
        exit_server="vpn1",
        exit_address=IPv4Address("203.0.113.11"),
        exit_address_v6=IPv6Address(exit_v6) if exit_v6 else None,
        carries_ipv6=carries,
        lease="1",
        handshake_ms=1,
    )


def test_a_page_may_come_through_either_exit(tmp_path: Path) -> None:
    """What a site saw is the proven exit, or over IPv6 the named one; an unnamed one only if it is not the host's."""
    told, host = ip_address("2001:db8:2::1001"), "2001:db8:1::10"
    made = prover(tmp_path, host)
    named, unnamed = _tunnel(str(told), carries=True), _tunnel(None, carries=True)
    assert made.agrees(EXIT, EXIT, named)
    assert not made.agrees(OTHER, EXIT, named)
    assert made.agrees(told, EXIT, named)
    assert not made.agrees(ip_address("2001:db8:2::1002"), EXIT, named)
    assert made.agrees(told, EXIT, unnamed)
    assert not made.agrees(ip_address(host), EXIT, unnamed)
    assert not prover(tmp_path).agrees(told, EXIT, unnamed), "the host's own addresses are unknown"
    assert not made.agrees(told, EXIT, _tunnel(str(told), carries=False))


class _Echo(http.server.BaseHTTPRequestHandler):
    """Says who asked."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.client_address[0].encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_the_proof_is_of_ipv4(tmp_path: Path) -> None:
    """A service is asked over IPv4 alone, whatever else it has: that exit is what is leased and learned."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listening:
        server = http.server.HTTPServer(listening.getsockname()[:2], _Echo, bind_and_activate=False)
        server.socket.close()
        server.socket = listening
        with ThreadPoolExecutor(max_workers=1) as pool:
            pool.submit(server.handle_request)
            port = listening.getsockname()[1]
            seen = prover(tmp_path, urls=(f"http://[::1]:{port}/", f"http://127.0.0.1:{port}/")).seen()
    assert seen == ip_address("127.0.0.1"), "told as ::ffff:127.0.0.1, by a socket for both families"


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
