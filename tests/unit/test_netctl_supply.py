"""Keys of a key service, through the program that asks it, into a real store: lent once, and given back for certain."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa

from fleet.model import Fleet
from fleet.outside.calls import Web
from fleet.settings.keys import KeyServiceSettings
from fleet.sockets.callers import Caller, Limits
from fleet.sockets.deadline import within
from fleet.sockets.keyservice_api import TABLE, Allocated
from fleet.sockets.rpc import Server
from keyservice.service import KeyService
from lab import keyservice as lab
from netctl import supply as supplies
from netctl.plan.key import Secret
from netctl.pool import issued, lent, schema, updates
from netctl.pool.contract import Wish
from netctl.pool.issued import Given
from netctl.pool.store import Store
from netctl.pool.threaded import ThreadedPool
from netctl.pool.updates import Found
from netctl.slots.slot import Slot, SlotState
from netctl.supply import Supply
from tests.keyservices import Judge
from tests.unit.test_netctl_suspects import FLEET as FLEET_OF_FOUR
from tests.unit.test_netctl_suspects import Ground, ends_at

SERVERS = ("203.0.113.11", "203.0.113.12")
EACH = 3
FLEET = {"dns": {"resolvers": ["198.18.0.53"]}, "egress": {"urls": ["https://shop.example/ip"]}}
LIES = ("garbage", "types", "mismatch", "stranger", "endless", "redirect", "twice", "refuses", "broken")


def keys_of(servers: tuple[str, ...]) -> list[dict[str, Any]]:
    """EACH keys of each of SERVERS; all have one network inside."""
    made = []
    for at, server in enumerate(servers):
        for number in range(EACH):
            secret = Secret.parse_private(base64.b64encode(bytes([1 + at * EACH + number]) * 32).decode())
            private = base64.b64encode(secret.reveal()).decode()
            made.append(
                {
                    "server_address": server,
                    "server_port": 51820,
                    "server_public_key": base64.b64encode(bytes([200 + at]) * 32).decode(),
                    "private_key": private,
                    "public_key": secret.public(),
                    "client_address": f"10.8.0.{2 + number}/32",
                }
            )
    return made


class World:
    """A service, the program that asks it, and a supply over a store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "keys.json").write_text(json.dumps(keys_of(SERVERS)))
        self.service = lab.KeyService(folder, "127.0.0.1", 0)
        self.port = self.service.server_address[1]
        self.store = folder / "netctl/keys.db"
        self.now = 0.0
        """Seconds by which the store's clock is ahead."""

    def settings(self, **changes: Any) -> KeyServiceSettings:
        """The table, with CHANGES."""
        address = f"http://127.0.0.1:{self.port}"
        urls = {name: f"{address}/{name}" for name in ("allocate", "release")}
        usual = {"insecure_http": True, **urls, "servers": SERVERS, "ahead": 2, "timeout_seconds": 30}
        return KeyServiceSettings.model_validate({**usual, **changes})

    def fault(self, word: str) -> None:
        """From here on the service is like that."""
        (self.folder / "fault").write_text(word)

    @contextlib.asynccontextmanager
    async def supplied(self, **changes: Any) -> AsyncIterator[tuple[ThreadedPool, Supply]]:
        """A pool and its supply, whose rounds the test makes."""
        settings, path = self.settings(**changes), self.folder / "keyservice.sock"
        asked = KeyService(settings, Web("keys.source", settings))
        limits = Limits(connections_per_second=1000, connections_burst=1000, requests_burst=1000)
        server = Server(TABLE, asked, caller=lambda peer: Caller.OPERATOR, limits=limits)
        await server.start(path)
        pool = await ThreadedPool.open(lambda: Store(self.store, clock=lambda: schema.clock() + self.now), 0)
        fleet = Fleet.model_validate({**FLEET, "workers": {"count": 2}})
        made = Supply(fleet, settings, path, pool, NoTunnels())  # type: ignore[arg-type]
        try:
            yield pool, made
        finally:
            await pool.close()
            await server.close()

    @property
    def lent(self) -> set[str]:
        """The keys that the service misses."""
        return {*self.service.lent}


class NoTunnels:
    """Where no worker is."""

    slots: ClassVar[dict[int, Slot]] = {}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A service that is well; an address that has failed is asked again in the next round."""
    monkeypatch.setattr(supplies, "FIRST_SECONDS", 1e-6)
    monkeypatch.setattr(supplies, "LONGEST_SECONDS", 1e-6)
    made = World(tmp_path)
    yield made
    made.service.close()


Work = Callable[[ThreadedPool, Supply], Awaitable[None]]


def run(world: World, work: Work, **changes: Any) -> None:
    """Run WORK with WORLD's pool and supply."""

    async def whole() -> None:
        async with world.supplied(**changes) as (pool, supply):
            await work(pool, supply)

    asyncio.run(whole())


def parts_of(key: dict[str, Any]) -> dict[str, Any]:
    """KEY as the program keyservice hands it to netctl."""
    names = ("server", "port", "server_key", "private_key", "public_key", "address")
    return {name: str(value) for name, value in zip(names, key.values(), strict=True)}


async def publics(pool: ThreadedPool) -> set[str]:
    """The keys of the pool."""
    return await pool.of_service(lambda db, _: {*db.scalars(sa.text("SELECT public FROM keys"))})


def test_keys_lie_ready_and_come_back_once_their_lease_has_ended(world: World) -> None:
    """As many as are set lie ready, of servers in turn; a key is leased once, and back only after the device's word."""

    async def work(pool: ThreadedPool, supply: Supply) -> None:
        await supply.once()
        assert len(world.lent) == 2 and await publics(pool) == world.lent
        lease = await pool.take(Wish(uid=1101, owner="o"))
        assert lease and lease.public in world.lent
        await supply.once()
        assert len(world.lent) == 3
        await pool.ending(1101)
        await supply.once()
        assert lease.public in world.lent, "no device has confirmed yet"
        await pool.ended(1101)
        await supply.once()
        assert lease.public not in world.lent and await publics(pool) == world.lent
        assert (await pool.numbers()).service == ""

    run(world, work)


def test_whole_client_files_are_keys_as_well(world: World) -> None:
    """`fields.config` leads to a client file; the exit that was learned of a server is that of its next key."""

    async def work(pool: ThreadedPool, supply: Supply) -> None:
        await supply.once()
        lease = await pool.take(Wish(uid=1101, owner="o"))
        assert lease and str(lease.key.address).startswith("10.8.0.") and lease.key.exit_address is None

    run(world, work, fields={"config": "/config"})


@pytest.mark.parametrize("fault", LIES)
def test_a_service_that_lies_gives_no_key_and_a_reason(world: World, fault: str) -> None:
    """No lie is leased or given to two; what was lent for it is given back; the reason is one line without a key."""
    privates = [one["private_key"] for one in world.service.keys]

    async def work(pool: ThreadedPool, supply: Supply) -> None:
        await supply.once()
        good = await publics(pool)
        lease = await pool.take(Wish(uid=1101, owner="o"))
        assert lease
        world.fault(fault)
        await supply.once()
        assert await publics(pool) == good
        said = (await pool.numbers()).service
        assert said and said.startswith("key service: ") and "\n" not in said
        assert not any(private in said for private in privates)
        other = await pool.take(Wish(uid=1102, owner="o"))
        assert other and other.public != lease.public
        world.fault("")
        await supply.once()
        await supply.once()
        assert world.lent == await publics(pool)
        assert (await pool.numbers()).service == ""

    run(world, work)


def test_a_silent_service_holds_up_nobody(world: World) -> None:
    """While it says nothing, and when nobody is there, leases are taken from what lies ready; later it goes on."""

    async def work(pool: ThreadedPool, supply: Supply) -> None:
        await supply.once()
        world.fault("silent")
        asking = asyncio.ensure_future(supply.once())
        for uid in (1101, 1102):
            assert await pool.take(Wish(uid=uid, owner="o"))
        assert not asking.done() or (await pool.numbers()).service
        await asking
        assert "no whole answer within 2 s" in str((await pool.numbers()).service)
        world.service.close()
        await supply.once()
        assert "ConnectError" in str((await pool.numbers()).service)
        world.fault("")
        world.service = lab.KeyService(world.folder, "127.0.0.1", world.port)
        await supply.once()
        assert (await pool.numbers()).free == 2

    run(world, work, timeout_seconds=2)


def test_a_service_is_asked_for_its_status_first_once_it_has_failed(world: World) -> None:
    """A key that comes too late for us is lost for an hour: so no key is asked for until the status is good."""

    async def work(pool: ThreadedPool, supply: Supply) -> None:
        world.fault("garbage")
        await supply.once()
        world.fault("broken")
        before = len(world.lent)
        await supply.once()
        assert "status: " in str((await pool.numbers()).service) and len(world.lent) == before
        world.fault("")
        await supply.once()
        assert ((await pool.numbers()).service, (await pool.numbers()).free) == ("", 2)

    run(world, work, status=f"http://127.0.0.1:{world.port}/status")


def test_a_crash_loses_no_key(world: World) -> None:
    """What was lent, and what has ended without being given back, is known to the next netctl."""
    leased: list[str] = []

    async def before(pool: ThreadedPool, supply: Supply) -> None:
        await supply.once()
        for uid in (1101, 1102):
            lease = await pool.take(Wish(uid=uid, owner="o"))
            assert lease
            leased.append(lease.public)
        await pool.ending(1101)
        await pool.ended(1101)

    async def after(pool: ThreadedPool, supply: Supply) -> None:
        assert {*leased} <= world.lent
        await supply.once()
        assert leased[0] not in world.lent and leased[1] in world.lent
        await supply.close()
        assert world.lent == {leased[1]}

    run(world, before)
    run(world, after)


def test_time_takes_keys_away_before_the_service_does(world: World) -> None:
    """Half of its time unused, a key goes back; before it is over a lease is named to be ended; after it nothing is
    given back, for it may be another's.
    """

    async def work(pool: ThreadedPool, supply: Supply) -> None:
        await supply.once()
        lease = await pool.take(Wish(uid=1101, owner="o"))
        assert lease
        (unused,) = await publics(pool) - {lease.public}
        world.now = 31 * 60
        assert await pool.take(Wish(uid=1102, owner="o")) is None, "what has lain too long is not leased"
        await supply.once()
        assert {"event": "back", "public_key": unused} in map(json.loads, world.service._lines())
        assert await pool.of_service(issued.overdue) == []
        world.now = 55 * 60
        assert await pool.of_service(issued.overdue) == [(1101, lease.public)]
        world.now = 61 * 60
        await pool.ending(1101)
        await pool.ended(1101)
        await supply.once()
        assert lease.public in world.lent and lease.public not in await publics(pool)

    run(world, work)


def test_another_boot_keeps_a_keys_hour(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's clock begins again at a boot: the wall clock says how long a key has been lent."""

    async def before(pool: ThreadedPool, supply: Supply) -> None:
        await supply.once()

    async def after(pool: ThreadedPool, supply: Supply) -> None:
        assert await pool.take(Wish(uid=1101, owner="o"))

    async def late(pool: ThreadedPool, supply: Supply) -> None:
        assert await pool.take(Wish(uid=1102, owner="o")) is None

    run(world, before)
    monkeypatch.setattr(schema, "boot_id", lambda: "another")
    run(world, after)
    wall = time.time
    monkeypatch.setattr(schema, "boot_id", lambda: "a third")
    monkeypatch.setattr(time, "time", lambda: wall() + 45 * 60)
    run(world, late)


def test_without_the_setting_its_keys_are_gone(world: World) -> None:
    """Who takes the service out of fleet.toml has its keys in the pool no more; those of files stay."""

    async def work(pool: ThreadedPool, supply: Supply) -> None:
        await supply.once()
        await pool.of_service(lambda db, _: issued.tell(db, None))
        assert (await pool.numbers()).keys == 0 and (await pool.numbers()).service is None

    run(world, work)


def test_no_file_and_no_word_of_ours_holds_a_private_key(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """Through all faults: no log line has one, and the store's file alone does (the control)."""
    privates = [one["private_key"] for one in world.service.keys]

    async def work(pool: ThreadedPool, supply: Supply) -> None:
        for fault in ("", *LIES, ""):
            world.fault(fault)
            await supply.once()

    run(world, work)
    written = "".join(capfd.readouterr())
    assert not any(private in written for private in privates)
    stored = b"".join(path.read_bytes() for path in world.store.parent.iterdir())
    assert any(base64.b64decode(private) in stored for private in privates)
    assert world.store.stat().st_mode & 0o077 == 0


def test_a_server_that_fails_is_left_alone_and_the_others_go_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that the service does not know is asked for once in a while; all keys are of the other meanwhile."""
    monkeypatch.setattr(supplies, "FIRST_SECONDS", 60.0)
    monkeypatch.setattr(supplies, "LONGEST_SECONDS", 60.0)

    async def work(pool: ThreadedPool, supply: Supply) -> None:
        for _ in range(2):
            await supply.once()
        numbers = await pool.numbers()
        assert (numbers.free, numbers.servers) == (2, 1)
        assert numbers.service == "key service: 203.0.113.99: it refused: there is no server 203.0.113.99"

    run(world, work, servers=["203.0.113.99", SERVERS[0]])


def test_a_key_of_a_file_is_not_taken_from_the_service(world: World) -> None:
    """A key that a file has brought stays the file's: it is neither leased from both nor given back."""

    async def work(pool: ThreadedPool, supply: Supply) -> None:
        told = Allocated.model_validate(parts_of(world.service.keys[0]))
        key = lent.judged(told, "").key
        assert key
        await pool.of_service(lambda db, _: updates.add(db, [Found("mine.conf", key)]))
        await supply.once()
        assert "it gave a key twice" in str((await pool.numbers()).service)
        await supply.once()
        (mine,) = await pool.of_service(lambda db, _: db.scalars(sa.text("SELECT origin FROM keys LIMIT 1")).all())
        assert mine == "mine.conf" and key.private.public() in await publics(pool)

    run(world, work)


def test_a_lease_ends_before_its_key_is_taken_away(tmp_path: Path) -> None:
    """The tunnel is sealed and its worker hung up on, who asks for another; the key can be given back then."""
    ahead = [0.0]

    async def work() -> None:
        path, made = tmp_path / "netctl/keys.db", ends_at(1, "198.51.100.1")
        pool = await ThreadedPool.open(lambda: Store(path, clock=lambda: schema.clock() + ahead[0]), 0)
        given = Given(made.private.public(), "", {"public_key": "k"}, schema.clock(), 3600)
        await pool.of_service(partial(issued.accept, given=given, found=Found("key-service", made)))
        on, ended = Ground(pool, [made]), asyncio.Event()
        await on.connect(1101)
        slot = on.tunnels.slots[1101]
        assert slot.owner
        slot.owner.hang_up = ended.set
        settings = KeyServiceSettings(allocate="https://keys.example/a", release="https://keys.example/r")
        watching = asyncio.ensure_future(Supply(FLEET_OF_FOUR, settings, tmp_path, pool, on.tunnels).watch())
        ahead[0] = 55 * 60
        await within(5, ended.wait())
        assert slot.state is SlotState.SEALED and slot.lease is None
        due, late = await pool.of_service(issued.due)
        assert [one.public for one in due] == [given.public] and late == []
        watching.cancel()
        await pool.close()

    asyncio.run(work())


def test_the_judge_sees_a_key_that_came_back_too_early() -> None:
    """The control of the system test: a key in two devices is found, and one in a device that the service has back."""

    class Seen:
        """Two devices, and what is lent."""

        devices, out = {"wg101": "a", "wg102": "b"}, {"a", "b"}

        def lent(self) -> set[str]:
            return self.out

        def host(self, _: object) -> subprocess.CompletedProcess[str]:
            words = "".join(f"{name} {public}\n" for name, public in self.devices.items())
            return subprocess.CompletedProcess([], 0, words)

    seen = Seen()
    judge = Judge(seen, seen)  # type: ignore[arg-type]
    assert judge.look()
    seen.out = {"a"}
    with pytest.raises(AssertionError, match="still in a device"):
        judge.look()
    seen.devices["wg102"] = "a"
    with pytest.raises(AssertionError, match="in two devices"):
        judge.look()
