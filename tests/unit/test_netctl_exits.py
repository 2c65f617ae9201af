"""The judgement of exits: netctl's own look before everything, two workers where it has no answer, never the host."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import Unproved, WrongExit
from fleet.model import DnsSettings, EgressSettings, Fleet
from fleet.sockets.wire import Address
from netctl.exits.judge import Judge
from netctl.exits.own import FRESH_SECONDS, OwnAddresses, addresses_here
from netctl.exits.probe import ANSWER_BYTES, Seen, _read
from netctl.pool.contract import Lease, Wish
from netctl.pool.store import Store
from netctl.pool.threaded import ThreadedPool
from netctl.pool.updates import Found
from netctl.slots.slot import Event, Slot, SlotState
from tests.unit.test_netctl_keys import key

TRUE, MOVED, LIE, HOST = map(ip_address, ("203.0.113.11", "203.0.113.12", "192.0.2.66", "198.51.100.10"))
NO_ANSWER = Seen(trouble="no answer")


class Ground:
    """Three workers' slots, one key; what netctl sees through its tunnel, and what the host shows, a test sets."""

    def __init__(self, pool: ThreadedPool, **egress: object) -> None:
        settings = EgressSettings.model_validate({"urls": ["https://a.example"], **egress})
        self.fleet = Fleet(dns=DnsSettings.model_validate({"resolvers": ["198.18.0.53"]}), egress=settings)
        self.pool = pool
        self.through, self.clear = Seen(addresses=(TRUE,)), Seen(addresses=(HOST,))
        self.looks = 0
        self.slots = {uid: Slot(worker=self.fleet.worker(str(uid))) for uid in (1101, 1102, 1103)}
        self.own = OwnAddresses(settings, self._in_the_clear, on_interfaces=frozenset)
        self.judge = self.another()

    def another(self) -> Judge:
        """A judge that has looked at nothing yet."""
        return Judge(self.fleet, self.pool, lambda slot: slot.worker.interface, self._through, self.own)

    async def _through(self, *_: object) -> Seen:
        self.looks += 1
        return self.through

    async def _in_the_clear(self) -> Seen:
        return self.clear

    async def lease(self, uid: int) -> tuple[Slot, Lease]:
        """The key is UID's, and no other's any more."""
        for other in self.slots:
            await self.pool.ending(other)
            await self.pool.ended(other)
        slot = self.slots[uid]
        lease = await self.pool.take(Wish(uid=uid, owner="o"))
        assert lease
        slot.hold(lease)
        slot.step(Event.CONNECT if slot.state is SlotState.SEALED else Event.ROTATE)
        slot.step(Event.READY)
        return slot, lease

    async def claim(self, uid: int, address: Address) -> None:
        """The worker UID gets the key, and says where it comes out."""
        slot, lease = await self.lease(uid)
        await self.judge.heard(slot, lease, address)

    async def known(self) -> Address | None:
        """What the next tunnel over the key says."""
        return self.judge.exit_of((await self.lease(1103))[1])


Work = Callable[[Ground], Coroutine[Any, Any, None]]


def run(path: Path, work: Work, exit_: Address | None = None, **egress: object) -> None:
    """Do WORK on a Ground whose key's file names the exit EXIT_."""

    @contextlib.asynccontextmanager
    async def ground() -> AsyncIterator[Ground]:
        store = Store(path / "keys.db")
        store.add([Found("1.conf", replace(key(1, "vpn1.example"), exit_address=exit_))])
        store.close()
        pool = await ThreadedPool.open(partial(Store, path / "keys.db"), 0)
        made = Ground(pool, **egress)
        try:
            yield made
        finally:
            await made.judge.close()
            await pool.close()

    async def whole() -> None:
        async with ground() as made:
            await work(made)

    asyncio.run(whole())


def test_a_lie_costs_its_worker_and_nobody_else(tmp_path: Path) -> None:
    """netctl has seen another address: WrongExit, and what netctl has seen is learned."""

    async def work(on: Ground) -> None:
        for uid in (1101, 1102):
            with pytest.raises(WrongExit, match=r"192\.0\.2\.66 of the worker, and 203\.0\.113\.11 of netctl"):
                await on.claim(uid, LIE)
        assert await on.known() == TRUE
        await on.claim(1101, TRUE)
        assert on.looks == 1, "a key is looked at once a minute, whatever is said of it"

    run(tmp_path, work)


def test_without_a_look_two_workers_are_needed(tmp_path: Path) -> None:
    """One worker's word is taken for its own loop alone; a second worker's same word teaches it."""

    async def work(on: Ground) -> None:
        on.through = NO_ANSWER
        for _ in range(3):
            await on.claim(1101, LIE)
        assert await on.known() is None
        await on.claim(1102, TRUE)
        assert await on.known() is None
        await on.claim(1101, TRUE)
        assert await on.known() == TRUE

    run(tmp_path, work)


def test_an_exit_that_moves_is_learned_again(tmp_path: Path) -> None:
    """By netctl's look at the first word of it; without one, by two workers; one of them alone moves nothing."""

    async def work(on: Ground) -> None:
        on.judge.leased(*await on.lease(1101))
        await on.claim(1101, TRUE)
        on.through, on.judge = NO_ANSWER, on.another()
        await on.claim(1101, MOVED)
        assert await on.known() == TRUE
        await on.claim(1102, MOVED)
        assert await on.known() == MOVED
        on.through, on.judge = Seen(addresses=(TRUE,)), on.another()
        with pytest.raises(WrongExit):
            await on.claim(1101, LIE)
        assert await on.known() == TRUE

    run(tmp_path, work)


def test_what_was_learned_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `learned_hours` it is not known any more, and looked at again at the next lease."""

    async def work(on: Ground) -> None:
        await on.claim(1101, TRUE)
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 3599)
        assert await on.known() == TRUE
        monkeypatch.setattr(time, "time", lambda: now + 3601)
        assert await on.known() is None
        on.judge = on.another()
        on.judge.leased(*await on.lease(1102))
        await on.claim(1101, TRUE)
        assert await on.known() == TRUE
        assert on.looks == 2

    run(tmp_path, work, learned_hours=1)


def test_what_a_file_names_is_binding(tmp_path: Path) -> None:
    """Nobody looks, and no number of words changes it; it does not expire."""

    async def work(on: Ground) -> None:
        on.judge.leased(*await on.lease(1101))
        for uid in (1101, 1102, 1103):
            with pytest.raises(WrongExit, match="file names"):
                await on.claim(uid, MOVED)
        assert await on.known() == TRUE
        assert on.looks == 0
        await on.pool.learn_exit(1, MOVED)
        assert await on.known() == TRUE

    run(tmp_path, work, exit_=TRUE)


@pytest.mark.parametrize("through", [NO_ANSWER, Seen(addresses=(HOST,))], ids=["no look", "a look that sees it too"])
def test_the_hosts_address_is_no_exit(tmp_path: Path, through: Seen) -> None:
    """Neither two workers nor netctl's own look teach it, before and after the host's address has changed."""

    async def work(on: Ground) -> None:
        on.through = through
        for uid in (1101, 1102):
            with pytest.raises(WrongExit, match="of this host"):
                await on.claim(uid, HOST)
        assert await on.known() is None
        on.own._asked = None
        on.clear = Seen(addresses=(MOVED, ip_address("2001:db8:1::10")))
        for address in on.clear.addresses:
            with pytest.raises(WrongExit, match="of this host"):
                await on.claim(1101, address)

    run(tmp_path, work)


def test_nothing_is_judged_before_the_hosts_address_is_known(tmp_path: Path) -> None:
    """A start without network: nothing is learned; then the network is there, and it works without another start."""

    async def work(on: Ground) -> None:
        for on.clear in (NO_ANSWER, Seen(addresses=(ip_address("2001:db8:1::10"),))):
            on.own._asked = None
            for uid in (1101, 1102):
                with pytest.raises(WrongExit, match="cannot be judged"):
                    await on.claim(uid, TRUE)
        assert await on.known() is None
        on.clear, on.own._asked, on.judge = Seen(addresses=(HOST,)), None, on.another()
        await on.claim(1101, TRUE)
        assert await on.known() == TRUE

    run(tmp_path, work)


def test_a_look_is_its_leases_own(tmp_path: Path) -> None:
    """What is seen when the lease has ended meanwhile may be the next key's exit: it is not learned."""

    async def work(on: Ground) -> None:
        slot, lease = await on.lease(1101)

        async def late(*_: object) -> Seen:
            await on.lease(1101)
            return Seen(addresses=(LIE,))

        judge = Judge(on.fleet, on.pool, lambda slot: slot.worker.interface, late, on.own)
        await judge.heard(slot, lease, TRUE)
        assert await on.known() is None

    run(tmp_path, work)


def test_own_addresses_are_asked_for_when_they_may_have_changed() -> None:
    """Once while nothing changes; again with another address on an interface, and after a minute. None is forgotten."""
    asked: list[int] = []
    here: list[Address] = [HOST]
    now = [0.0]

    async def in_the_clear() -> Seen:
        asked.append(1)
        return Seen(addresses=(TRUE,)) if len(asked) < 4 else NO_ANSWER

    settings = EgressSettings(urls=("https://a.example",))
    own = OwnAddresses(settings, in_the_clear, on_interfaces=lambda: frozenset(here), clock=lambda: now[0])

    async def known() -> set[Address]:
        return set(await own.known(TRUE))

    async def whole() -> None:
        assert await known() == await known() == {HOST, TRUE}
        assert len(asked) == 1
        here.append(MOVED)
        assert await known() == {HOST, MOVED, TRUE}
        assert len(asked) == 2
        now[0] = FRESH_SECONDS + 1
        await known()
        assert len(asked) == 3
        now[0] = 2 * FRESH_SECONDS + 2
        for _ in range(2):
            with pytest.raises(Unproved, match="not known"):
                await known()
        assert len(asked) == 4, "who asks again and again starts no process each time"

    asyncio.run(whole())
    told = EgressSettings.model_validate({"urls": ["https://a.example"], "host_addresses": [str(LIE)]})
    own = OwnAddresses(told, in_the_clear, on_interfaces=lambda: frozenset(here))
    assert asyncio.run(known()) == {LIE, HOST, MOVED}
    assert len(asked) == 4, "what the settings say is not asked"
    assert ip_address("127.0.0.1") in addresses_here()


NO_ANSWERS = (b"", b"[]", b"{}", b'{"seen": "x", "trouble": ""}', b'{"seen": [1e400]}', b"[" * ANSWER_BYTES)


@pytest.mark.parametrize("answer", NO_ANSWERS)
def test_an_answer_of_another_shape_is_none(answer: bytes) -> None:
    """Whatever the asking process says, for a stranger may have taken it over: no address, and a reason."""
    assert _read(answer).addresses == ()
    assert _read(answer).trouble
    assert _read(b'{"seen": ["203.0.113.11"], "trouble": ""}') == Seen(addresses=(TRUE,))
