"""What netctl asks of the key pool (netctl/pool/threaded.py), on every store there is.

A store is added as one more class in MAKINGS. Somebody else's lock on it is a real one, held by another process.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import KeyStoreFailed
from fleet.sockets.netctl_api import ServerKeys
from netctl.plan.key import Endpoint
from netctl.pool import issued, schema, threaded
from netctl.pool.contract import Lease, Wish
from netctl.pool.issued import Given
from netctl.pool.lines import KeyLine
from netctl.pool.store import Store
from netctl.pool.threaded import ThreadedPool
from netctl.pool.updates import Found
from tests.locked_store import locked
from tests.unit.test_netctl_keys import key

REST_SECONDS = 3600
TICK_SECONDS = 0.01


class Sqlite:
    """A SQLite file."""

    comes_back = True
    """A key whose lease has ended rests, and is leased again."""

    def __init__(self, folder: Path) -> None:
        self.taking = threading.Event()
        """Set when a take() has begun."""
        self._path = folder / "netctl/keys.db"
        store = Store(self._path)
        self._fill(store)
        store.close()

    def _fill(self, store: Store) -> None:
        store.add([Found(f"{n}.conf", key(n, f"vpn{n % 2}.example")) for n in range(1, 5)])

    async def open(self, cooldown_seconds: float) -> ThreadedPool:
        """The pool of four keys, two on each of two servers."""
        return await ThreadedPool.open(self._store, cooldown_seconds)

    def _store(self) -> Store:
        begun = self.taking

        class Told(Store):
            def take(self, wishes: Sequence[Wish], cooldown_seconds: float) -> dict[Wish, Lease | None]:
                begun.set()
                return super().take(wishes, cooldown_seconds)

        return Told(self._path)

    def listed(self, cooldown_seconds: float = 0) -> dict[int, KeyLine]:
        """What people see of each key."""
        store = Store(self._path)
        try:
            return {line.key_id: line for line in store.lines(cooldown_seconds)}
        finally:
            store.close()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Another program holds the store: whatever has to be written waits."""
        with locked(self._path):
            yield


class Lent(Sqlite):
    """The same four keys, lent by a key service: each is leased once."""

    comes_back = False

    def _fill(self, store: Store) -> None:
        since = schema.clock()
        for number in range(1, 5):
            made = key(number, f"vpn{number % 2}.example")
            given = Given(made.private.public(), "", {"public_key": "k"}, since, 3600)
            assert store.of_service(partial(issued.accept, given=given, found=Found(f"{number}.conf", made)))


MAKINGS = (Sqlite, Lent)
on_a_file = pytest.mark.parametrize("making", [Sqlite], indirect=True)
"""What is about the file alone, whatever its keys are."""


@pytest.fixture(params=MAKINGS)
def making(request: pytest.FixtureRequest, tmp_path: Path) -> Sqlite:
    """Each store there is."""
    made: Sqlite = request.param(tmp_path)
    return made


@contextlib.asynccontextmanager
async def opened(making: Sqlite, cooldown_seconds: float = 0) -> AsyncIterator[ThreadedPool]:
    """MAKING's pool."""
    pool = await making.open(cooldown_seconds)
    try:
        yield pool
    finally:
        await pool.close()


def run(work: Callable[[ThreadedPool], Coroutine[Any, Any, None]], making: Sqlite, cooldown_seconds: float = 0) -> None:
    """Run WORK with MAKING's pool."""

    async def whole() -> None:
        async with opened(making, cooldown_seconds) as pool:
            await work(pool)

    asyncio.run(whole())


async def take(pool: ThreadedPool, uid: int) -> Lease:
    """A lease for slot UID, of any free key."""
    lease = await pool.take(Wish(uid=uid, owner=f"owner of {uid}"))
    assert lease
    return lease


async def leased(pool: ThreadedPool) -> int:
    """How many keys have a lease that has not ended."""
    return (await pool.numbers()).leased


def test_no_key_is_leased_twice_and_none_free_is_no_lease(making: Sqlite) -> None:
    """Six slots ask at once for four keys: four have one each, two none; the leases stay with their slots."""

    async def work(pool: ThreadedPool) -> None:
        asked = [pool.take(Wish(uid=uid, owner="o")) for uid in range(1101, 1107)]
        found = [lease for lease in await asyncio.gather(*asked) if lease]
        assert len({lease.key_id for lease in found}) == len(found) == 4
        assert {lease.id for lease in await pool.held()} == {lease.id for lease in found}
        assert (await pool.numbers()).free == 0

    run(work, making)


def test_avoid_and_aside_are_chosen_last(making: Sqlite) -> None:
    """A server that did not answer, and what is put aside, are taken when there is nothing else."""

    async def work(pool: ThreadedPool) -> None:
        avoid = frozenset({"vpn1.example"})
        first = await pool.take(Wish(uid=1101, owner="o", avoid=avoid))
        second = await pool.take(Wish(uid=1102, owner="o", avoid=avoid))
        third = await pool.take(Wish(uid=1103, owner="o", avoid=avoid, aside={1: 9.0}))
        assert [lease.key.server for lease in (first, second) if lease] == ["vpn0.example"] * 2
        assert third
        assert third.key_id == 3

    run(work, making)


def test_a_slot_holds_one_lease(making: Sqlite) -> None:
    """Taking the next key ends the last lease, counts the generation, and frees the old key once confirmed."""

    async def work(pool: ThreadedPool) -> None:
        first, second = await take(pool, 1101), await take(pool, 1101)
        assert (first.generation, second.generation) == (1, 2)
        assert first.key.server != second.key.server
        assert await pool.held() == [second]
        assert (await leased(pool), await pool.unfinished()) == (2, [1101])
        await pool.ended(1101)
        assert (await leased(pool), await pool.unfinished()) == (1, [])

    run(work, making)


def test_a_late_confirmation_frees_no_later_key(making: Sqlite) -> None:
    """What is written down after a reply may meet the next request, whose old key is still in the device."""

    async def work(pool: ThreadedPool) -> None:
        await take(pool, 1101)
        second = await take(pool, 1101)
        await take(pool, 1101)
        await pool.ended(1101, before=second.generation)
        assert await leased(pool) == 2
        await pool.ended(1101)
        assert await leased(pool) == 1

    run(work, making)


def test_a_key_that_is_ending_is_not_free_and_one_that_ended_rests(making: Sqlite) -> None:
    """Until the device has confirmed the key is leased; then it rests before it is free."""

    async def work(pool: ThreadedPool) -> None:
        await take(pool, 1101)
        await pool.ending(1101)
        numbers = await pool.numbers()
        assert (numbers.leased, numbers.cooling, numbers.free) == (1, 0, 3)
        assert await pool.held() == []
        await pool.ended(1101)
        numbers = await pool.numbers()
        assert (numbers.leased, numbers.cooling, numbers.free) == (0, int(making.comes_back), 3)

    run(work, making, REST_SECONDS)


def test_leases_survive_the_program(making: Sqlite) -> None:
    """The next netctl finds the lease with its key, and the owner and server's address that were written down."""
    renewed: list[Lease] = []

    async def before(pool: ThreadedPool) -> None:
        lease = await take(pool, 1101)
        renewed.append(replace(lease, owner="boot:1:2", endpoint=Endpoint("203.0.113.11", 51820)))
        await pool.renew(renewed[0])

    async def after(pool: ThreadedPool) -> None:
        assert await pool.held() == renewed

    run(before, making)
    run(after, making)


def test_an_exit_is_learned_and_moves(making: Sqlite) -> None:
    """What is learned last counts, and when it was learned is known; claims of the key are over then."""

    async def work(pool: ThreadedPool) -> None:
        lease = await take(pool, 1101)
        for number in (1, 2):
            await pool.learn_exit(lease.key_id, IPv4Address(f"203.0.113.{number}"))
        (found,) = await pool.held()
        assert found.key == replace(lease.key, exit_address=IPv4Address("203.0.113.2"))
        assert found.learned_at
        assert lease.learned_at is None
        await pool.claim(lease, IPv4Address("203.0.113.3"), 0)
        await pool.learn_exit(lease.key_id, IPv4Address("203.0.113.4"))
        assert not await pool.claim(replace(lease, uid=1102), IPv4Address("203.0.113.3"), 0)

    run(work, making)


def test_two_workers_are_needed_to_agree(making: Sqlite) -> None:
    """One worker alone is not believed, however often and in whatever order it says it; nor two of different words."""

    async def work(pool: ThreadedPool) -> None:
        lease, seen = await take(pool, 1101), IPv4Address("203.0.113.1")
        for address in (seen, IPv4Address("203.0.113.2"), seen, seen):
            assert not await pool.claim(lease, address, 0)
        other = replace(lease, uid=1102)
        assert not await pool.claim(other, IPv4Address("203.0.113.2"), 0)
        assert not await pool.claim(replace(other, key_id=2), seen, 0)
        assert not await pool.claim(other, seen, time.time() + 1), "a claim of long ago is none"
        assert await pool.claim(other, seen, 0)

    run(work, making)


def test_what_became_of_a_key_is_written_down(making: Sqlite) -> None:
    """Its failure with the reason, for how long it and its server are aside, and that it works: for `keys list`."""

    async def work(pool: ThreadedPool) -> None:
        lease = await take(pool, 1101)
        await pool.note(lease, "KernelRefused", {lease.key_id: 30.0})
        failed = making.listed()[lease.key_id]
        assert (failed.trouble, failed.leases_today, failed.last_good) == ("KernelRefused", 0, None)
        assert failed.last_failure and failed.aside_until
        assert 25 < (failed.aside_until - failed.last_failure).total_seconds() < 35
        again = await take(pool, 1101)
        await pool.note(again, "silent", {again.key.server: 60.0})
        assert {line.server for line in making.listed().values() if line.state == "aside"} == {again.key.server}
        await pool.ended(1101, before=again.generation)
        good = making.listed()[again.key_id]
        assert (good.state, good.trouble, good.why, good.leases_today) == ("leased", None, "silent", 1)
        assert good.last_good and good.last_failure and good.last_good > good.last_failure
        aside = {line.server for line in making.listed().values() if line.state == "aside"}
        assert aside == ({lease.key.server} if making.comes_back else set())

    run(work, making)


def test_servers_are_counted_as_their_keys_are_listed(making: Sqlite) -> None:
    """Each server's numbers are those of `keys list`, whatever state its keys are in; no key is in them."""

    async def counted(pool: ThreadedPool) -> dict[str, ServerKeys]:
        found = {one.server: one for one in await pool.servers()}
        lines = making.listed(3600).values()
        assert {*found} == {line.server for line in lines}
        for name, one in found.items():
            of = [line for line in lines if line.server == name]
            states = Counter(line.state for line in of)
            assert one.leased == sum(line.leased_to is not None for line in of)
            assert (one.keys, one.retired) == (len(of), states["retired"])
            assert (one.free, one.cooling, one.aside) == (states["free"], states["cooling"], states["aside"])
            assert one.why in {line.trouble and line.trouble[:200] for line in of} | {None}
            assert not any(line.public_key in str(one) for line in of)
        return found

    async def work(pool: ThreadedPool) -> None:
        assert [(one.free, one.why) for one in (await counted(pool)).values()] == [(2, None)] * 2
        lease = await take(pool, 1101)
        assert (await counted(pool))[lease.key.server].leased == 1
        await pool.note(lease, "w" * 1000, {lease.key.server: 60.0})
        failed = (await counted(pool))[lease.key.server]
        assert (failed.leased, failed.aside, failed.why, failed.last_good) == (1, 1, "w" * 200, None)
        assert failed.aside_until and failed.aside_until.timestamp() > time.time()
        again = await take(pool, 1101)
        await pool.ended(1101, before=again.generation)
        assert (await counted(pool))[again.key.server].last_good

    run(work, making, 3600)


# --- a store that does not answer


WRITES: dict[str, Callable[[ThreadedPool, Lease], Coroutine[Any, Any, Any]]] = {
    "take": lambda pool, lease: take(pool, lease.uid),
    "renew": lambda pool, lease: pool.renew(lease),
    "ending": lambda pool, lease: pool.ending(lease.uid),
    "ended": lambda pool, lease: pool.ended(lease.uid),
    "note": lambda pool, lease: pool.note(lease, "a word", {}),
    "claim": lambda pool, lease: pool.claim(lease, IPv4Address("203.0.113.1"), 0),
    "learn_exit": lambda pool, lease: pool.learn_exit(lease.key_id, IPv6Address("2001:db8::1")),
}


@on_a_file
@pytest.mark.parametrize("call", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("patience_milliseconds", [50, 5000], ids=["refuses", "is silent"])
def test_a_store_that_another_holds_ends_in_its_own_error(
    making: Sqlite,
    call: Callable[[ThreadedPool, Lease], Coroutine[Any, Any, Any]],
    patience_milliseconds: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """KeyStoreFailed, whether the store says so or says nothing until the deadline; then it works again."""
    monkeypatch.setattr(threaded, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(schema, "BUSY_MILLISECONDS", patience_milliseconds)

    async def work(pool: ThreadedPool) -> None:
        lease = await take(pool, 1101)
        with making.held():
            started = time.monotonic()
            with pytest.raises(KeyStoreFailed):
                await call(pool, lease)
            assert time.monotonic() - started < 3
        assert (await pool.numbers()).keys == 4

    run(work, making)


@on_a_file
def test_those_who_wait_together_are_refused_together(making: Sqlite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five slots ask while the store is locked: one second for the first, one for the others, not one for each."""
    monkeypatch.setattr(schema, "BUSY_MILLISECONDS", 1000)

    async def work(pool: ThreadedPool) -> None:
        with making.held():
            started = time.monotonic()
            asked = (take(pool, uid) for uid in range(1101, 1106))
            outcomes = await asyncio.gather(*asked, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {KeyStoreFailed}
            assert time.monotonic() - started < 4.5
        assert await leased(pool) == 0

    run(work, making)


async def longest_pause(work: Coroutine[Any, Any, Any]) -> float:
    """Seconds that this loop was away at most while WORK went on."""
    task, pauses, last = asyncio.ensure_future(work), [0.0], time.monotonic()
    while not task.done():
        await asyncio.sleep(TICK_SECONDS)
        pauses.append(time.monotonic() - last)
        last = time.monotonic()
    with contextlib.suppress(KeyStoreFailed):
        await task
    return max(pauses)


@on_a_file
def test_a_store_that_hangs_stops_no_other_task(making: Sqlite, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop goes on while a call waits for the lock. The control: the same call made in the loop stops it."""
    monkeypatch.setattr(schema, "BUSY_MILLISECONDS", 1500)

    async def work(pool: ThreadedPool) -> None:
        assert isinstance(pool, ThreadedPool)

        async def at_once() -> None:
            pool._store.ending(1101)

        with making.held():
            assert await longest_pause(pool.ending(1101)) < 1
            assert await longest_pause(at_once()) > 1

    run(work, making)


@pytest.mark.parametrize("begun", [True, False], ids=["begun", "waiting"])
def test_what_a_cancelled_take_has_leased_is_ended_by_the_call_that_follows(making: Sqlite, begun: bool) -> None:
    """Its caller hangs up while the store is locked; then its slot is sealed: no lease is left, whatever came of it."""

    async def work(pool: ThreadedPool) -> None:
        await take(pool, 1101)
        with making.held():
            if not begun:
                blocking = asyncio.ensure_future(pool.ending(1102))
                await asyncio.sleep(TICK_SECONDS)
            making.taking.clear()
            taking = asyncio.ensure_future(take(pool, 1101))
            await asyncio.sleep(TICK_SECONDS)
            while begun and not making.taking.is_set():
                await asyncio.sleep(TICK_SECONDS)
            taking.cancel()
            ending = asyncio.ensure_future(pool.ending(1101))
            with pytest.raises(asyncio.CancelledError):
                await taking
        await ending
        # What had begun has leased a key; what had not, none.
        assert (await pool.held(), await leased(pool)) == ([], 2 if begun else 1)
        await pool.ended(1101)
        assert await leased(pool) == 0
        if not begun:
            await blocking

    run(work, making)


def test_no_moment_of_a_cancellation_loses_a_lease(making: Sqlite) -> None:
    """Cancelled after ever longer, until nothing is cut off any more: ending and ended leave every key free."""

    async def work(pool: ThreadedPool) -> None:
        cut, uncut = 0, 0
        while uncut < 10:
            taking = asyncio.ensure_future(take(pool, 1101))
            await asyncio.sleep((cut + uncut) * 5e-5)
            taking.cancel()
            await pool.ending(1101)
            await pool.ended(1101)
            assert (await pool.held(), await leased(pool)) == ([], 0), cut
            cut, uncut = (cut + 1, uncut) if taking.cancelled() else (cut, uncut + 1)
        assert cut > 0

    run(work, making)


@on_a_file
def test_a_pool_is_closed_while_its_store_hangs(making: Sqlite, monkeypatch: pytest.MonkeyPatch) -> None:
    """close() ends within the deadline; what the store was given up over does not keep the program."""
    monkeypatch.setattr(threaded, "ANSWER_SECONDS", 0.2)

    async def work() -> None:
        pool = await making.open(0)
        with making.held():
            with pytest.raises(KeyStoreFailed):
                await pool.ending(1101)
            started = time.monotonic()
            await pool.close()
            assert time.monotonic() - started < 1

    asyncio.run(work())


@on_a_file
def test_a_store_that_cannot_be_opened_says_so(making: Sqlite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened while another program holds it: KeyStoreFailed."""
    monkeypatch.setattr(schema, "BUSY_MILLISECONDS", 50)
    with making.held(), pytest.raises(KeyStoreFailed):
        asyncio.run(making.open(0))
