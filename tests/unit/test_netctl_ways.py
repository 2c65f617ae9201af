"""Names of servers and their several ways in: the slots' code on a kernel in memory, with a stand-in for DNS."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import ServerNotFound
from netctl.plan.key import Endpoint, Key, Ways
from tests.unit.test_netctl_keys import key
from tests.unit.test_netctl_suspects import FLEET, Ground, ends_at, ground, troubles

ADDRESSES: Mapping[str, Sequence[str]] = {
    "kr.example": ("198.51.100.50", "198.51.100.51", "2001:db8::51"),
    "us.example": ("198.51.100.60",),
}
LIVE = Endpoint("2001:db8::51", 51820)


@pytest.fixture(autouse=True)
def _dns(monkeypatch: pytest.MonkeyPatch) -> None:
    """ADDRESSES are all that DNS knows; `away.example` gets no answer."""

    def getaddrinfo(host: str, port: int, *_: object) -> list[tuple[Any, ...]]:
        if host == "away.example":
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        if host not in ADDRESSES:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_DGRAM, 0, "", (address, port)) for address in ADDRESSES[host]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def run(path: Path, keys: Sequence[Key], work: Callable[[Ground], Coroutine[Any, Any, None]]) -> None:
    """Run WORK with slots over a pool of KEYS."""

    async def whole() -> None:
        async with ground(path, keys=keys) as on:
            await work(on)
            await asyncio.sleep(0.1)  # what is written after the reply

    asyncio.run(whole())


def answers_at(on: Ground, endpoint: Endpoint) -> None:
    """Each key's server answers at ENDPOINT alone."""
    on.kernel.servers = {endpoint: next(iter(on.kernel.servers.values()))}


@pytest.mark.parametrize("others", [(), ("198.51.100.50", "198.51.100.51", "2001:db8::51")], ids=["name", "ways"])
def test_each_address_of_a_server_is_tried(others: Sequence[str], tmp_path: Path) -> None:
    """Those of its name, or of its files: the third answers; the next tunnel begins there, and tries no other."""
    first = "198.51.100.49" if others else "kr.example"
    one = replace(key(1, first), others=Ways(tuple(Endpoint(host, 51820) for host in others)))

    async def work(on: Ground) -> None:
        answers_at(on, LIVE)
        assert (await on.connect(1101)).endpoint == LIVE
        renewed: list[Endpoint] = []
        renew = on.pool.renew

        async def noted(lease: Any) -> None:
            renewed.append(lease.endpoint)
            await renew(lease)

        on.pool.renew = noted  # type: ignore[method-assign]
        assert (await on.connect(1101)).endpoint == LIVE
        assert renewed == [LIVE]

    run(tmp_path / "keys.db", [one], work)


def test_a_server_silent_by_every_way_is_named_by_each(tmp_path: Path) -> None:
    """What `keys list` says has each address that was tried; the worker has another server's key."""

    async def work(on: Ground) -> None:
        answers_at(on, Endpoint("198.51.100.2", 51822))
        assert (await on.connect(1101)).key.server == "198.51.100.2"

    run(tmp_path / "keys.db", [key(1, "kr.example"), ends_at(2, "198.51.100.2")], work)
    why = troubles(tmp_path / "keys.db")["1.conf"]
    assert all(f"{address}:51820 " in why for address in ("198.51.100.50", "198.51.100.51", "[2001:db8::51]"))


def test_a_name_without_an_address_is_no_silent_server(tmp_path: Path) -> None:
    """Its worker gets another server at once, no device is replaced, `keys list` says why, and it is chosen last."""
    keys = [ends_at(1, "gone.example"), ends_at(2, "away.example"), ends_at(3, "198.51.100.3")]

    async def work(on: Ground) -> None:
        before = on.kernel.state.links
        assert {(await on.connect(1101)).key.server for _ in range(2)} == {"198.51.100.3"}
        assert {one.interface for one in before} >= {one.interface for one in on.kernel.state.links}
        assert set(on.tunnels.servers.aside_names()) == {"gone.example", "away.example"}

    run(tmp_path / "keys.db", keys, work)
    found = troubles(tmp_path / "keys.db")
    assert "gone.example has no address" in found["1.conf"]
    assert "no resolver of this host" in found["2.conf"]


@pytest.mark.parametrize(("host", "words"), [("gone.example", "has no address"), ("away.example", "no resolver")])
def test_a_worker_hears_that_names_are_the_reason(host: str, words: str, tmp_path: Path) -> None:
    """With no server that has one the error is that, in much less than a deadline, and again when it asks again."""
    keys = [ends_at(n, f"{n}.{host}" if host.startswith("gone") else host) for n in range(1, 4)]

    async def work(on: Ground) -> None:
        for _ in range(2):
            with pytest.raises(ServerNotFound, match=words):
                await on.connect(1101)
        assert (await on.pool.numbers()).leased == 0

    run(tmp_path / "keys.db", keys, work)


def test_a_tunnel_has_the_smaller_mtu(tmp_path: Path) -> None:
    """The file's while its key is held where that is smaller, else the setting; and the setting's after it."""
    keys = [replace(ends_at(n, f"198.51.100.{n}"), mtu_bytes=mtu) for n, mtu in ((1, 1280), (2, 9000), (3, None))]

    async def work(on: Ground) -> None:
        for _ in range(3):
            lease = await on.connect(1101)
            (link,) = (one for one in on.kernel.state.links if one.interface == "wg101")
            assert link.mtu_bytes == {1280: 1280}.get(lease.key.mtu_bytes or 0, FLEET.wireguard.mtu)
        slot = on.tunnels.slots[1101]
        async with slot.lock:
            await on.tunnels.seal(slot, "the test ends")
        assert {one.mtu_bytes for one in on.kernel.state.links} == {FLEET.wireguard.mtu}

    run(tmp_path / "keys.db", keys, work)
