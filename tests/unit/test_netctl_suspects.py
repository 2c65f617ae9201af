"""Whatever one key raises, at whatever stage, the workers have the others: the slots' code on a kernel in memory."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import cast

import pytest

from fleet.errors import ConfigurationError, FleetError, KernelRefused, KeyStoreFailed, TunnelError
from fleet.model import DnsSettings, EgressSettings, Fleet, WireguardSettings, WorkersSettings
from fleet.sockets.callers import Caller, Connection, Peer
from netctl.host import Found, Host
from netctl.kernel.setns import Spaces
from netctl.plan.diff import Operation
from netctl.plan.key import Key
from netctl.plan.things import Device, Filter, Gate
from netctl.pool import updates
from netctl.pool.contract import Lease
from netctl.pool.store import Store
from netctl.pool.threaded import ThreadedPool
from netctl.slots.devices import Devices
from netctl.slots.endings import Endings
from netctl.slots.links import Links
from netctl.slots.reconcile import Reconciler
from netctl.slots.slot import Event
from netctl.slots.suspects import in_words
from netctl.slots.tunnels import Tunnels
from netctl.wireguard.contract import WireGuard
from tests import fakes
from tests.unit.test_netctl_keys import PRIVATE, key

FLEET = Fleet(
    isolation="uid",
    workers=WorkersSettings(count=4),
    dns=DnsSettings.model_validate({"resolvers": ["198.18.0.53"]}),
    egress=EgressSettings(urls=("https://a.example",)),
    wireguard=WireguardSettings(handshake_timeout_seconds=0.1),
)
KEYS = 8
BAD = 3
"""The key that is broken; never used, so it is among the first to be chosen."""
ERRORS = (ValueError(PRIVATE), KeyError("x"), OSError(22, "Invalid argument"), KernelRefused("no"), MemoryError())
RAISES: list[tuple[str, Exception]] = [(stage, error) for stage in ("device", "gate") for error in ERRORS]
RAISES += [("device", TunnelError("refused")), ("row", ValueError()), ("name", UnicodeError())]


class Kernel(fakes.FakeKernel):
    """A kernel in memory that raises an error for one key, or for all."""

    def __init__(self, keys: Sequence[Key]) -> None:
        super().__init__()
        self.spaces = Spaces()
        self.refused: dict[str, tuple[frozenset[IPv4Address], Exception]] = {}
        self._keys = {key.private: key.address for key in keys}
        clients = frozenset(key.private.public() for key in keys)
        self.servers = {key.endpoint: (key.server_public, clients) for key in keys}

    def source(self, _way: object) -> IPv4Address:
        """The host has a way to every server."""
        return IPv4Address("192.0.2.1")

    def _meet(self, stage: str, address: IPv4Address | None) -> None:
        addresses, error = self.refused.get(stage, (frozenset(), OSError()))
        if address in addresses:
            raise error

    async def observe(self, **_: object) -> Found:
        return await super().observe()

    async def apply(self, operations: Sequence[Operation]) -> None:
        for operation in operations:
            if isinstance(operation.thing, Gate) and operation.verb == "open":
                self._meet("gate", operation.thing.address)
        await super().apply(operations)

    async def write(self, device: Device) -> None:
        if device.private is not None:
            self._meet("device", self._keys[device.private])
        await super().write(device)

    async def install(self, wanted: Filter, gates: Iterable[Gate]) -> None:
        others = frozenset(one for one in self.state.filters if one.space != wanted.space)
        self.state = replace(self.state, filters=others | {wanted}, gates=frozenset(gates))

    async def shut(self, worker: object) -> None:
        self.state = replace(self.state, gates=frozenset(one for one in self.state.gates if one.worker != worker))

    async def delete_link(self, interface: str, space: str = "") -> bool:
        self.state = fakes.without_link(self.state, interface, space)
        return True


class Ground:
    """Four workers, and keys on as many servers; BAD's server has a name that is no name where NAMED."""

    def __init__(self, pool: ThreadedPool, keys: Sequence[Key]) -> None:
        self.pool, self.keys, self.kernel = pool, keys, Kernel(keys)
        host = cast(Host, self.kernel)
        links = Links(FLEET, host)
        reconciler = Reconciler(FLEET, self.kernel.backend, host, links)
        devices = Devices(FLEET, cast(WireGuard, self.kernel), host, links, reconciler)
        self.endings = Endings(FLEET, self.kernel.spaces)
        self.tunnels = Tunnels(fleet=FLEET, pool=pool, reconciler=reconciler, devices=devices, endings=self.endings)

    async def connect(self, uid: int, server: str | None = None) -> Lease:
        """Another key for the worker UID, of SERVER alone, as its connect or rotate asks for it."""
        slot = self.tunnels.slots[uid]
        peer = Peer(uid=uid, gid=uid, pid=os.getpid())
        slot.own(Connection(peer=peer, caller=Caller.WORKER))
        slot.server = server
        slot.step(Event.ROTATE if slot.lease else Event.CONNECT)
        async with slot.lock:
            return await self.tunnels.renew(slot, time.monotonic() + 8)

    async def everybody(self) -> list[Lease]:
        """Every worker connects and rotates, so that each key is tried."""
        found = []
        for _ in range(3):
            found += [await self.connect(uid) for uid in self.tunnels.slots]
        await asyncio.sleep(0.1)  # what is written after the reply
        return found


def ends_at(number: int, server: str) -> Key:
    return replace(key(number, server), port=51820 + number)


@contextlib.asynccontextmanager
async def ground(path: Path, *, name: str = "198.51.100.3", keys: Sequence[Key] | None = None) -> AsyncIterator[Ground]:
    """A store of KEYS, or of so many keys, BAD's server called NAME."""
    keys = keys or [ends_at(n, name if n == BAD else f"198.51.100.{n}") for n in range(1, KEYS + 1)]
    store = Store(path)
    store.add([updates.Found(f"{n}.conf", one) for n, one in enumerate(keys, 1)])
    store.close()
    pool = await ThreadedPool.open(partial(Store, path), 0)
    try:
        made = Ground(pool, keys)
        await made.tunnels.adopt()
        yield made
    finally:
        await pool.close()


def troubles(path: Path) -> dict[str, str]:
    """What `netctl keys list` says is wrong, by origin."""
    store = Store(path)
    try:
        return {line.origin: line.trouble for line in store.lines() if line.trouble}
    finally:
        store.close()


def spoil(path: Path) -> None:
    """BAD's row holds no key."""
    with sqlite3.connect(path) as db:
        db.execute("UPDATE keys SET address = 'no address' WHERE id = ?", (BAD,))


@pytest.mark.parametrize(
    ("stage", "error"), RAISES, ids=lambda one: one if isinstance(one, str) else type(one).__name__
)
def test_what_one_key_raises_keeps_no_worker_from_the_others(stage: str, error: Exception, tmp_path: Path) -> None:
    """Every worker gets a tunnel each time it asks, over other keys, and the list says why one is put aside."""

    async def work() -> None:
        async with ground(path, name="a..b" if stage == "name" else "198.51.100.3") as on:
            if stage == "row":
                spoil(path)
            elif stage != "name":
                on.kernel.refused = {stage: (frozenset({on.keys[BAD - 1].address}), error)}
            assert BAD not in {lease.key_id for lease in await on.everybody()}
            on.kernel.refused = {}

    path = tmp_path / "keys.db"
    asyncio.run(work())
    found = troubles(path)
    assert list(found) == [f"{BAD}.conf"]
    assert PRIVATE not in found[f"{BAD}.conf"]


def test_a_key_with_a_workers_address_is_put_aside(tmp_path: Path) -> None:
    """One that sends from where workers send is used for nobody, and the list says why."""

    async def work() -> None:
        async with ground(
            path, keys=[replace(ends_at(1, "198.51.100.1"), address=IPv4Address("10.255.0.102")), *good]
        ) as on:
            assert 1 not in {lease.key_id for lease in await on.everybody()}

    path, good = tmp_path / "keys.db", [ends_at(n, f"198.51.100.{n}") for n in range(2, KEYS + 1)]
    asyncio.run(work())
    assert "10.255.0.102 is among workers.placeholders (10.255.0.0/16)" in troubles(path)["1.conf"]


def test_a_key_that_works_again_is_as_good_as_new(tmp_path: Path) -> None:
    """The reason goes from the list with the key's next tunnel (positive control: it was there)."""

    async def work() -> None:
        async with ground(path) as on:
            on.kernel.refused = {"device": (frozenset({on.keys[BAD - 1].address}), ValueError())}
            await on.everybody()
            assert troubles(path)
            on.kernel.refused = {}
            on.tunnels.servers._aside.worked(BAD)
            assert BAD in {lease.key_id for lease in await on.everybody()}
            assert not troubles(path)

    path = tmp_path / "keys.db"
    asyncio.run(work())


@pytest.mark.parametrize("stage", ["device", "gate"])
def test_what_every_key_raises_is_no_keys_fault(stage: str, tmp_path: Path) -> None:
    """Two keys are tried, the worker hears the error by its name, none is put aside; after it each works at once."""

    async def work() -> None:
        async with ground(path) as on:
            on.kernel.refused = {stage: (frozenset(one.address for one in on.keys), KernelRefused("the disk of nft"))}
            for uid in on.tunnels.slots:
                before = (await on.pool.numbers()).leased
                with pytest.raises(KernelRefused, match="the disk of nft"):
                    await on.connect(uid)
                assert (await on.pool.numbers()).leased <= before
            on.kernel.refused = {}
            assert not on.tunnels.servers.aside()
            assert len({lease.key_id for lease in await on.everybody()}) == KEYS
            assert not troubles(path)

    path = tmp_path / "keys.db"
    asyncio.run(work())


def test_an_exit_of_no_key_is_said_at_once(tmp_path: Path) -> None:
    """What no key can fill is no wait, which would hold up a worker and its job; where a key is of it, it is leased."""

    async def work() -> None:
        async with ground(tmp_path / "keys.db") as on:
            with pytest.raises(ConfigurationError, match="no key is of 'JP'"):
                await on.connect(1101, "JP")
            assert (await on.connect(1101, "198.51.100.4")).key.server == "198.51.100.4"

    asyncio.run(work())


def test_the_only_key_is_put_aside_for_itself(tmp_path: Path) -> None:
    """With no other key to tell by it is tried twice; the worker hears why, and the list says it."""

    async def work() -> None:
        async with ground(path) as on:
            await on.connect(1101)
            with sqlite3.connect(path) as db:
                db.execute("DELETE FROM leases WHERE slot <> 1101 OR state = 'ended'")
                db.execute("DELETE FROM keys WHERE id NOT IN (SELECT key_id FROM leases)")
            on.kernel.refused = {"device": (frozenset(one.address for one in on.keys), ValueError())}
            with pytest.raises(TunnelError, match="ValueError"):
                await on.connect(1101)
            await asyncio.sleep(0.1)

    path = tmp_path / "keys.db"
    asyncio.run(work())
    assert len(troubles(path)) == 1


def test_a_store_that_is_away_is_no_keys_fault(tmp_path: Path) -> None:
    """KeyStoreFailed reaches the worker at once; no key is put aside."""

    async def work() -> None:
        async with ground(path) as on:
            path.rename(tmp_path / "away")
            with pytest.raises(KeyStoreFailed):
                await on.connect(1101)
            (tmp_path / "away").rename(path)
            assert not on.tunnels.servers.aside()
            await on.connect(1101)

    path = tmp_path / "keys.db"
    asyncio.run(work())


def test_a_lease_whose_row_is_spoiled_stops_no_start(tmp_path: Path) -> None:
    """netctl starts without it; the list shows the row beside the others, and the key can be removed."""

    async def work() -> None:
        async with ground(path) as on:
            held = [await on.connect(uid) for uid in on.tunnels.slots]
            with sqlite3.connect(path) as db:
                db.execute("UPDATE keys SET address = 'no address', port = 'x' WHERE id = ?", (held[0].key_id,))
            assert {lease.id for lease in await on.pool.held()} == {lease.id for lease in held[1:]}

    path = tmp_path / "keys.db"
    asyncio.run(work())
    store = Store(path)
    (line,) = (line for line in store.lines() if line.address is None)
    assert len(store.lines()) == KEYS
    assert store.remove([line.key_id]) == [line.key_id]
    store.close()


def test_strangers_words_are_not_repeated() -> None:
    """An error's own words may quote a key; those of the fleet's errors do not, and are told."""
    for error in (ValueError(PRIVATE), OSError(PRIVATE)):
        assert PRIVATE not in in_words(error)
    assert in_words(FleetError("a word")) == "a word"
