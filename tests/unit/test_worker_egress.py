"""What counts as a proof of the exit."""

from __future__ import annotations

import http.server
import socket
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest

from fleet.errors import Unproved, WrongExit
from fleet.model import EgressSettings
from fleet.outside.seen_address import parse_address
from fleet.sockets import netctl_api, wire
from worker.egress import Prover, agrees, check

EXIT, OTHER = ip_address("203.0.113.11"), ip_address("203.0.113.12")
HOSTS = HOST, HOST_V6 = ip_address("198.51.100.10"), ip_address("2001:db8:1::10")


def prover(root: Path, urls: tuple[str, ...]) -> Prover:
    """A prover that asks URLS."""
    settings = EgressSettings.model_validate({"insecure_http": True, "urls": urls, "timeout_seconds": 1})
    return Prover(settings, root / "none.pem")


class Netctl:
    """What a worker tells netctl, which takes an address of the host's for no exit."""

    def __init__(self) -> None:
        self.told: list[wire.Address] = []

    def __call__(self, address: wire.Address) -> None:
        self.told.append(address)
        if address in HOSTS:
            raise WrongExit("an address of this host")


@pytest.mark.parametrize("text", ["203.0.113.11", " 203.0.113.11\n", '{"ip": "203.0.113.11"}'])
def test_answers(text: str) -> None:
    """A service answers with the address as text or as JSON."""
    assert parse_address(text) == EXIT


@pytest.mark.parametrize("text", ["", "<html>blocked</html>", "{", '{"origin": "203.0.113.11"}', "999.1.1.1"])
def test_no_answers(text: str) -> None:
    """Anything else is no answer."""
    with pytest.raises(ValueError):
        parse_address(text)


def test_leased_exit() -> None:
    """The leased exit passes and is told to nobody; any other does not, and netctl hears of it: exits move."""
    netctl = Netctl()
    check(EXIT, EXIT, netctl)
    assert netctl.told == []
    with pytest.raises(WrongExit, match=r"sees 203\.0\.113\.12, the leased exit is 203\.0\.113\.11"):
        check(OTHER, EXIT, netctl)
    assert netctl.told == [OTHER]


def test_an_exit_that_is_not_known_is_netctls_to_judge() -> None:
    """What netctl takes passes, what it refuses is a wrong exit."""
    netctl = Netctl()
    check(EXIT, None, netctl)
    with pytest.raises(WrongExit, match="of this host"):
        check(HOST, None, netctl)
    assert netctl.told == [EXIT, HOST]


def _tunnel(exit_v6: str | None, *, carries: bool) -> netctl_api.Tunnel:
    return netctl_api.Tunnel(
        exit_server="vpn1",
        exit_address=IPv4Address("203.0.113.11"),
        exit_address_v6=IPv6Address(exit_v6) if exit_v6 else None,
        carries_ipv6=carries,
        lease="1",
        handshake_ms=1,
    )


def test_a_page_may_come_through_either_exit() -> None:
    """What a site saw is the proven exit, or over IPv6 the named one; an unnamed one is netctl's to judge."""
    told, netctl = ip_address("2001:db8:2::1001"), Netctl()
    named, unnamed = _tunnel(str(told), carries=True), _tunnel(None, carries=True)
    assert agrees(EXIT, EXIT, named, netctl)
    assert not agrees(OTHER, EXIT, named, netctl)
    assert agrees(told, EXIT, named, netctl)
    assert not agrees(ip_address("2001:db8:2::1002"), EXIT, named, netctl)
    assert not agrees(told, EXIT, _tunnel(str(told), carries=False), netctl)
    assert netctl.told == []
    assert agrees(told, EXIT, unnamed, netctl)
    with pytest.raises(WrongExit):
        agrees(HOST_V6, EXIT, unnamed, netctl)
    assert netctl.told == [told, HOST_V6]


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
            seen = prover(tmp_path, (f"http://[::1]:{port}/", f"http://127.0.0.1:{port}/")).seen()
    assert seen == ip_address("127.0.0.1"), "told as ::ffff:127.0.0.1, by a socket for both families"


def test_no_service_answers(tmp_path: Path) -> None:
    """When no service answers, each is named with its reason."""
    urls = ("http://127.0.0.1:1/ip", "http://127.0.0.1:2/ip")
    with pytest.raises(Unproved) as caught:
        prover(tmp_path, urls).seen()
    assert all(url in caught.value.message for url in urls)
