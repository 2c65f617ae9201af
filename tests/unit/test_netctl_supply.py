"""Keys of a key service, through the program that asks it, into a real store: lent once, and given back for certain."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import sqlalchemy as sa

from fleet.callers import Caller, Limits
from fleet.calls import Web
from fleet.keys_settings import KeyServiceSettings
from fleet.keyservice_api import TABLE
from fleet.model import Fleet
from fleet.rpc import Server
from keyservice.service import KeyService
from lab import keyservice as lab
from netctl import supply as supplies
from netctl.plan.key import Secret
from netctl.pool import issued, schema
from netctl.pool.contract import Wish
from netctl.pool.store import Store
from netctl.pool.threaded import ThreadedPool
from netctl.slots.slot import Slot
from netctl.supply import Supply

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
        usual = {"insecure_http": True, **urls, "servers": SERVERS, "ahead": 2, "timeout_seconds": 0.5}
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
        assert "no whole answer within 0.5 s" in str((await pool.numbers()).service)
        world.service.close()
        await supply.once()
        assert "ConnectError" in str((await pool.numbers()).service)
        world.fault("")
        world.service = lab.KeyService(world.folder, "127.0.0.1", world.port)
        await supply.once()
        assert (await pool.numbers()).free == 2

    run(world, work)


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
