"""The choice of the next key, over pools in a real SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from netctl.pool import choice, schema


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
_memory = sa.create_engine("sqlite://")
schema.metadata.create_all(_memory)


@contextmanager
def pool_of(keys: list[Pooled]) -> Iterator[sa.Connection]:
    """A store of KEYS."""
    with _memory.connect() as db:
        for number, one in enumerate(keys):
            row = {"id": one.key_id, "public": str(one.key_id), "private": b"", "address": "", "server_public": ""}
            row |= {"server": one.server, "port": 1, "origin": "", "last_used_at": one.last_used_at}
            db.execute(sa.insert(schema.keys).values(row))
            if one.leased:
                lease = {"id": str(number), "key_id": one.key_id, "slot": number, "generation": 1, "owner": ""}
                lease |= {"endpoint_host": "", "endpoint_port": 1, "state": "held", "began_at": 0}
                db.execute(sa.insert(schema.leases).values(lease))
        yield db
        db.rollback()


@given(pools, st.sampled_from([None, "a", "b"]), st.floats(0, 100))
def test_a_chosen_key_is_free_rested_and_elsewhere(keys: list[Pooled], last: str | None, cooldown: float) -> None:
    """Never leased, never within its rest; the last server only when no other has a free key."""
    with pool_of(keys) as db:
        found = choice.choose(db, last_server=last, avoid=frozenset(), now=1000, cooldown_seconds=cooldown, aside={})
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
        found = choice.choose(db, last_server=None, avoid=frozenset("a"), now=2000, cooldown_seconds=0, aside={})
    servers = {one.key_id: one.server for one in keys if not one.leased}
    assert found is None or servers[found] != "a" or set(servers.values()) == {"a"}


@given(pools)
def test_the_emptiest_server_and_the_longest_unused_key_come_first(keys: list[Pooled]) -> None:
    """Servers with fewer workers before others; of those a key never used, then the one used longest ago."""
    with pool_of(keys) as db:
        found = choice.choose(db, last_server=None, avoid=frozenset(), now=2000, cooldown_seconds=0, aside={})
    free = {one.key_id: one for one in keys if not one.leased}
    workers = {one.server: sum(other.leased for other in keys if other.server == one.server) for one in keys}
    if found is not None:
        assert workers[free[found].server] == min(workers[one.server] for one in free.values())
        equals = [one for one in free.values() if workers[one.server] == workers[free[found].server]]
        used = [-1.0 if one.last_used_at is None else one.last_used_at for one in equals]
        oldest = free[found].last_used_at
        assert (-1.0 if oldest is None else oldest) == min(used)


def test_what_is_aside_is_chosen_last_but_is_chosen() -> None:
    """While another is free it is not taken; when all are aside, the one that comes back first."""
    keys = [Pooled(key_id=n, server=f"vpn{n}") for n in (1, 2, 3)]

    def chosen(aside: dict[object, float]) -> int | None:
        with pool_of(keys) as db:
            return choice.choose(db, last_server=None, avoid=frozenset(), now=0, cooldown_seconds=0, aside={**aside})

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
