"""Conntrack entries and sockets of many slots are ended together: only those of each slot's finished lease."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import ClassVar

import pytest

from fleet.isolation import HOST
from netctl.kernel import connections, netlink
from netctl.kernel.connections import SOCK_DIAG_BY_FAMILY, Connections, Source, Sweep
from netctl.kernel.setns import Spaces
from netctl.plan.desired import zone
from tests.unit.test_netctl_suspects import FLEET, ends_at, ground

OLD, NEW = 7, 65_535
TIME_WAIT = 6
"""TCP_TIME_WAIT (net/tcp_states.h)."""
LEASED = IPv4Address("10.64.0.9"), IPv6Address("fc00:bbbb::9")
"""One address at all servers, as many providers give it."""
SOURCES = [Source(HOST, IPv4Address(f"10.255.0.{n}"), IPv6Address(f"fd66:6c65:6574::{n}")) for n in (1, 2, 3)]


def _begin(source: IPv4Address | IPv6Address, leased: IPv4Address | IPv6Address, port: int, where: int) -> None:
    site = "192.0.2.1" if source.version == 4 else "2001:db8::1"
    begun = ["-s", str(source), "-d", site, "-r", site, "-q", str(leased), "-p", "udp", "-w", str(where)]
    ports = ["--sport", str(port), "--dport", "53", "--reply-port-src", "53", "--reply-port-dst", str(port)]
    subprocess.run(["conntrack", "-I", *begun, *ports, "-t", "600"], check=True, capture_output=True)


def _left() -> set[str]:
    """Source and zone of every entry."""
    lines = [
        line.split()
        for family in ("ipv4", "ipv6")
        for line in subprocess.run(
            ["conntrack", "-L", "-f", family], check=True, capture_output=True, text=True
        ).stdout.splitlines()
    ]
    words = [dict(word.split("=") for word in reversed(line) if "=" in word) for line in lines]
    return {f"{one['src']} {one['zone']}" for one in words}


@pytest.fixture
def tracked(root: None) -> set[str]:
    """Each source has a connection of the old lease and one of the next, over each family that it has."""
    subprocess.run(["conntrack", "-F"], check=True, capture_output=True)
    for number, source in enumerate(SOURCES):
        for port, where in ((1000 + number, OLD), (2000 + number, NEW)):
            _begin(source.address, LEASED[0], port, where)
            _begin(source.address_v6, LEASED[1], port, where)
    return _left()


@pytest.mark.parametrize("number", [1, 2])
def test_each_ends_its_own_of_the_old_lease(tracked: set[str], number: int) -> None:
    """One or several slots in one walk: connections of the next lease, and of other slots, stay."""
    assert len(tracked) == 12
    swept = SOURCES[:number]
    assert Connections(Spaces()).end_tracked([Sweep(source, OLD) for source in swept]) == 2 * number
    assert _left() == tracked - {f"{address} {OLD}" for source in swept for address in source[1:]}


def test_all_of_a_source_and_a_part_of_another(tracked: set[str]) -> None:
    """A slot that closes loses all its connections; one that rotates meanwhile keeps those of its next lease."""
    asked = [Sweep(SOURCES[0]), Sweep(SOURCES[1], NEW)]
    assert Connections(Spaces()).end_tracked(asked) == 6
    gone = {one for one in tracked if one.split()[0] in map(str, SOURCES[0][1:])}
    assert _left() == tracked - gone - {f"{address} {NEW}" for address in SOURCES[1][1:]}


def test_the_next_lease_keeps_the_connections_that_it_begins(tracked: set[str], tmp_path: Path) -> None:
    """Also if a provider gives a client the same address at all servers, only the previous lease's are ended."""
    worker, keys = FLEET.members[0], [replace(ends_at(n, f"198.51.100.{n}"), address=LEASED[0]) for n in (1, 2)]

    async def rotated() -> set[str]:
        async with ground(tmp_path / "store", keys=keys) as made:
            for port in (3001, 3002):
                lease = await made.connect(worker.uid)
                _begin(worker.placeholder, lease.key.address, port, zone(worker, lease.generation))
            await made.endings.close()
        return {f"{worker.placeholder} {zone(worker, lease.generation)}"}

    assert asyncio.run(rotated()) == _left() - tracked
    listing = ["conntrack", "-L", "--src", str(worker.placeholder)]
    left = subprocess.run(listing, check=True, capture_output=True, text=True).stdout
    assert "sport=3002" in left and "sport=3001" not in left, left


@pytest.fixture
def sockets(root: None) -> Iterator[list[dict[str, socket.socket]]]:
    """For each source a socket of every kind: TCP over IPv4, IPv6 and IPv4 in an IPv6 socket; UDP; a listener."""
    own = [str(address) for source in SOURCES for address in source[1:]]
    with ExitStack() as stack:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        for address in own:
            subprocess.run(["ip", "address", "add", address, "dev", "lo"], check=True)
            stack.callback(subprocess.run, ["ip", "address", "delete", address, "dev", "lo"], check=True)
        site = stack.enter_context(socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True))
        port = site.getsockname()[1]

        def connected(source: str, to: str) -> socket.socket:
            found = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET))
            found.bind((source, 0))
            found.connect((to, port))
            return found

        def bound(source: str, kind: socket.SocketKind) -> socket.socket:
            found = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET, kind))
            found.bind((source, 0))
            return found

        made = []
        for source in SOURCES:
            v4, v6 = map(str, source[1:])
            made.append({"v4": connected(v4, "127.0.0.1"), "v6": connected(v6, "::1")})
            made[-1]["mapped"] = connected(f"::ffff:{v4}", "::ffff:127.0.0.1")
            made[-1] |= {f"datagrams {one}": bound(one, socket.SOCK_DGRAM) for one in (v4, v6)}
            made[-1]["listens"] = bound(v4, socket.SOCK_STREAM)
            made[-1]["listens"].listen()
        yield made


@pytest.mark.parametrize("number", [1, 2])
def test_sockets_of_those_who_are_asked_for_end(sockets: list[dict[str, socket.socket]], number: int) -> None:
    """Every kind ends, for one slot or several in one list; a slot that was not asked for keeps all its sockets."""
    assert Connections(Spaces()).end_sockets(SOURCES[:number]) == 6 * number
    for place, those in enumerate(sockets):
        told = {name: one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) for name, one in those.items()}
        assert set(told.values()) == {errno.ECONNABORTED if place < number else 0}, (place, told)


class Before6(netlink.Socket):
    """The kernel before 6.0, which ends no socket in TIME_WAIT (tcp_abort in net/ipv4/tcp.c)."""

    waiting: ClassVar[set[bytes]] = set()

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        found = super().dump(kind, body)
        self.waiting.update(one[4:52] for one in found if kind == SOCK_DIAG_BY_FAMILY and one[1] == TIME_WAIT)
        return found

    def request(self, kind: int, body: bytes) -> None:
        if body[-48:] in self.waiting:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        super().request(kind, body)


def test_one_that_an_older_kernel_keeps_saves_no_other(
    sockets: list[dict[str, socket.socket]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket in TIME_WAIT stays until its time is over; live sockets, which could keep sending, are still ended.

    The control: the socket in TIME_WAIT exists, and ending it is refused.
    """
    with socket.create_server(("127.0.0.1", 0)) as site, socket.socket() as ended:
        ended.bind((str(SOURCES[0].address), 0))
        ended.connect(site.getsockname())
        answering, _ = site.accept()
        ended.close()
        assert answering.recv(1) == b""
        answering.close()
    monkeypatch.setattr(connections, "Socket", Before6)
    assert Connections(Spaces()).end_sockets(SOURCES[:1]) == 6
    assert Before6.waiting
    told = {name: one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) for name, one in sockets[0].items()}
    assert set(told.values()) == {errno.ECONNABORTED}, told
