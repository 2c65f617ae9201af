"""The choice of the next key, over pools in a real SQLite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from netctl.pool import choice, schema
from netctl.pool.columns import key_of, row_of
from netctl.pool.contract import WholeKey, Wish
from tests.unit.test_netctl_keys import key


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """A key of the pool."""

    key_id: int
    server: str
    leased: bool = False
    last_used_at: float | None = None


pools = st.lists(
    st.builds(
        Pooled,
        key_id=st.integers(1, 50),
        server=st.sampled_from(["a", "b", "c"]),
        leased=st.booleans(),
        last_used_at=st.none() | st.floats(0, 1000),
    ),
    unique_by=lambda one: one.key_id,
)
SLOT = 1101
_memory = sa.create_engine("sqlite://")
schema.metadata.create_all(_memory)


@contextmanager
def pool_of(keys: list[Pooled], last: str | None = None) -> Iterator[sa.Connection]:
    """A store of KEYS. The slot that asks had its latest lease, the third, of a key of server LAST, if there is one."""
    with _memory.connect() as db:
        for number, one in enumerate(keys):
            row = row_of(key(number + 1, one.server))
            row |= {"id": one.key_id, "public": str(one.key_id), "origin": "", "last_used_at": one.last_used_at}
            db.execute(sa.insert(schema.keys).values(row))
            if one.leased:
                db.execute(_lease(number, one, generation=1, state="held"))
        if former := next((one for one in keys if one.server == last), None):
            db.execute(_lease(SLOT, former, generation=3, state="ended"))
        yield db
        db.rollback()


def _lease(slot: int, of: Pooled, *, generation: int, state: str) -> sa.Insert:
    lease = {
        "id": str(slot),
        "key_id": of.key_id,
        "public": str(of.key_id),
        "slot": slot,
        "generation": generation,
        "state": state,
    }
    return sa.insert(schema.leases).values(**lease, endpoint_host="", endpoint_port=1, owner="", began_at=0)


def choose(
    db: sa.Connection,
    *,
    avoid: frozenset[str] = frozenset(),
    aside: Mapping[Hashable, float] | None = None,
    server: str | None = None,
    now: float = 2000,
    cooldown_seconds: float = 0,
) -> int | None:
    """The key that the slot gets next."""
    wish = Wish(uid=SLOT, owner="o", avoid=avoid, aside=aside or {}, server=server)
    found = choice.Free(db, now=now, cooldown_seconds=cooldown_seconds).choose(wish)
    return found and found.key_id


def test_what_is_chosen_is_the_whole_key() -> None:
    """The key as it was imported, its id, and the generation of the slot's latest lease; 0 without one."""
    keys = [Pooled(key_id=7, server="a")]
    for last, latest in ((None, 0), ("a", 3)):
        with pool_of(keys, last) as db:
            found = choice.Free(db, now=0, cooldown_seconds=0).choose(Wish(uid=SLOT, owner="o"))
        assert found
        assert (found.key_id, key_of(found.row), found.latest) == (7, key(1, "a"), latest)


def test_a_server_that_is_asked_for_is_the_only_one() -> None:
    """Its free key, or one of that region, however the others stand; none where it has none."""
    keys = [Pooled(key_id=1, server="a"), Pooled(key_id=2, server="b", last_used_at=1999)]
    with pool_of(keys, "b") as db:
        chosen = {name: choose(db, server=name) for name in ("a", "b", "c")}
        db.execute(sa.update(schema.keys).where(schema.keys.c.id == 2).values(region="KR"))
        chosen |= {name: choose(db, server=name) for name in ("KR", "JP")}
    assert chosen == {"a": 1, "b": 2, "c": None, "KR": 2, "JP": None}


@given(pools, st.sampled_from([None, "a", "b"]), st.floats(0, 100))
def test_a_chosen_key_is_free_rested_and_elsewhere(keys: list[Pooled], last: str | None, cooldown: float) -> None:
    """Never leased, never within its rest; the last server only when no other has a free key."""
    with pool_of(keys, last) as db:
        found = choose(db, now=1000, cooldown_seconds=cooldown)
    free = {
        one.key_id: one
        for one in keys
        if not one.leased and (one.last_used_at is None or one.last_used_at + cooldown <= 1000)
    }
    assert (found is None) == (not free)
    if found is not None:
        assert free[found].server != last or all(one.server == last for one in free.values())


@given(pools)
def test_a_server_that_did_not_answer_comes_last(keys: list[Pooled]) -> None:
    """A server to avoid is taken only when there is no other."""
    with pool_of(keys) as db:
        found = choose(db, avoid=frozenset("a"))
    servers = {one.key_id: one.server for one in keys if not one.leased}
    assert found is None or servers[found] != "a" or set(servers.values()) == {"a"}


@given(pools)
def test_the_emptiest_server_and_the_longest_unused_key_come_first(keys: list[Pooled]) -> None:
    """Servers with fewer workers before others; of those a key never used, then the one used longest ago."""
    with pool_of(keys) as db:
        found = choose(db)
    free = {one.key_id: one for one in keys if not one.leased}
    workers = {one.server: sum(other.leased for other in keys if other.server == one.server) for one in keys}
    if found is not None:
        assert workers[free[found].server] == min(workers[one.server] for one in free.values())
        equals = [one for one in free.values() if workers[one.server] == workers[free[found].server]]
        used = [-1.0 if one.last_used_at is None else one.last_used_at for one in equals]
        oldest = free[found].last_used_at
        assert (-1.0 if oldest is None else oldest) == min(used)


asides = st.dictionaries(st.sampled_from(["a", "b", 1, 2, 3, 4, WholeKey("5")]), st.floats(0, 9))


@given(pools, asides, st.integers(0, 3))
def test_of_many_that_come_together_each_gets_the_best_that_is_left(
    keys: list[Pooled], aside: dict[Hashable, float], most: int
) -> None:
    """As if all were put in order for each: free, below the cap, not aside, fewer workers, longest unused."""
    leased = {one.key_id: one.server for one in keys if one.leased}
    with pool_of(keys) as db:
        free = choice.Free(db, now=2000, cooldown_seconds=0)
        for number in range(4):
            workers = Counter(leased.values())

            def order(one: Pooled, workers: Counter[str] = workers) -> tuple[float, int, float, int]:
                names: tuple[Hashable, ...] = (one.server, one.key_id, WholeKey(str(one.key_id)))
                used = -1.0 if one.last_used_at is None else one.last_used_at
                return max(aside.get(name, 0) for name in names), workers[one.server], used, one.key_id

            left = [one for one in keys if one.key_id not in leased and not 0 < most <= workers[one.server]]
            best = min(left, key=order, default=None)
            found = free.choose(Wish(uid=SLOT + number, owner="o", aside=aside, most_on_server=most))
            assert (found and found.key_id) == (best and best.key_id)
            if found and best:
                free.lease(found)
                leased[best.key_id] = best.server


def test_what_is_aside_is_chosen_last_but_is_chosen() -> None:
    """While another is free it is not taken; when all are aside, the one that comes back first."""
    keys = [Pooled(key_id=n, server=f"vpn{n}") for n in (1, 2, 3)]

    def chosen(aside: dict[Hashable, float]) -> int | None:
        with pool_of(keys) as db:
            return choose(db, aside=aside)

    assert chosen({}) == 1
    assert chosen({"vpn1": 30.0}) == 2
    assert chosen({"vpn1": 30.0, 2: 20.0}) == 3
    assert chosen({"vpn1": 30.0, 2: 20.0, "vpn3": 10.0}) == 3


@given(pools, st.floats(0, 100))
def test_the_numbers_add_up(keys: list[Pooled], cooldown: float) -> None:
    """All, leased, servers, resting: what a status says of the pool."""
    with pool_of(keys) as db:
        found = choice.numbers(db, now=1000, cooldown_seconds=cooldown)
    resting = sum(
        not one.leased and one.last_used_at is not None and one.last_used_at + cooldown > 1000 for one in keys
    )
    assert found == (len(keys), sum(one.leased for one in keys), len({one.server for one in keys}), resting)
