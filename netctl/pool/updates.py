"""What an imported client file adds to the pool: a new key, another server or endpoint of a key, or a change.

A key may be used at several servers, one at a time. A server with the same public key at the same host is the same
server; another port, or an address of the other family, is another endpoint of it. A server has moved if a file has the
same name, or if its row is the only one with that server key, in the same region, and not imported at the same time.

A lease does not change: a leased row is deleted when its lease ends, and the changed row is chosen next.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import sqlalchemy as sa

from fleet.client_files.sections import address_in
from netctl.plan.key import Key, Secret, Ways
from netctl.pool.columns import row_of
from netctl.pool.lines import key_in
from netctl.pool.schema import keys, leases

STANDARD_INPUT = "standard input"
_NAMES = {
    "server_public": "server key",
    "preshared": "preshared key",
    "address": "address",
    "address_v6": "IPv6 address",
    "exit_address": "exit",
    "exit_address_v6": "IPv6 exit",
    "mtu_bytes": "MTU",
}
_FRESH = ("id", "last_used_at", "leaving")
"""Columns that a row which replaces another does not copy from it."""


class Found(NamedTuple):
    """A key that was read from a file."""

    origin: str
    key: Key
    region: str | None = None


@dataclass(slots=True, kw_only=True)
class Imported:
    """The result of adding keys, by their origins."""

    new: list[str] = field(default_factory=list)
    servers: list[str] = field(default_factory=list)
    """Another server of a key in the pool."""
    changed: dict[str, str] = field(default_factory=dict)
    """In the pool already, but changed; the value says how."""
    there: list[str] = field(default_factory=list)
    """In the pool already, without a change."""


def add(db: sa.Connection, found: Sequence[Found]) -> Imported:
    """Add the keys FOUND, or change their rows."""
    done = Imported()
    touched: set[int] = set()
    for one in found:
        public = one.key.private.public()
        where = sa.and_(keys.c.public == public, keys.c.leaving == 0)
        rows = db.execute(sa.select(keys).where(where).order_by(keys.c.id)).mappings().all()
        row = _match(rows, one, touched)
        if row is None:
            touched.add(_insert(db, {"public": public, "origin": one.origin, "region": one.region, **row_of(one.key)}))
            (done.servers if rows else done.new).append(one.origin)
            continue
        if row["region"] is None and one.region:  # a store of an earlier version has no regions
            db.execute(sa.update(keys).where(keys.c.id == row["id"]).values(region=one.region))
        changes, words = _difference(row, one, touched)
        touched.add(_change(db, row, changes) if changes else row["id"])
        if words:
            done.changed[one.origin] = words
        else:
            done.there.append(one.origin)
    return done


def _match(rows: Sequence[Mapping[Any, Any]], one: Found, touched: Collection[int]) -> Mapping[Any, Any] | None:
    """The row among ROWS, all of the same key, that ONE updates; None: ONE is another server."""
    key = one.key
    alike = [row for row in rows if row["server_public"] == key.server_public]
    for row in alike:
        if row["server"] == key.server or str(key.endpoint) in row["others"].split():
            return row
    for row in rows:
        if (row["server"], row["port"]) == (key.server, key.port):
            return row
    for row in rows:
        if row["id"] not in touched and one.origin != STANDARD_INPUT and one.origin in row["origin"].split(", "):
            return row
    if len(alike) != 1:
        return None
    (row,) = alike
    if _other_family(row["server"], key.server) or (row["id"] not in touched and _has_moved(row, one)):
        return row
    return None


def _has_moved(row: Mapping[Any, Any], one: Found) -> bool:
    """Whether ONE is ROW's server at another address.

    Some providers use one server key for all servers of a place. Their host names or numbered files show that.
    """
    files = row["origin"].split(", ")
    neighbours = one.origin not in files and _unnumbered(one.origin) in map(_unnumbered, files)
    named = not address_in(row["server"]) and not address_in(one.key.server)
    return row["region"] in (None, one.region) and not named and not neighbours


def _unnumbered(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def _other_family(one: str, other: str) -> bool:
    before, after = address_in(one), address_in(other)
    return bool(before and after and before.version != after.version)


def _difference(row: Mapping[Any, Any], one: Found, touched: Collection[int]) -> tuple[dict[str, Any], str]:
    """The columns of ROW that ONE changes, and a description of the difference without secrets."""
    old = key_in(row)
    if isinstance(old, str):
        return row_of(one.key), "its row in the key store could not be read; it is replaced"
    new = _merged(old, row, one, touched)
    before, after = row_of(old), row_of(new)
    changes = {name: value for name, value in after.items() if before[name] != value}
    if new.exit_address != old.exit_address or (one.key.exit_address and row["learned_at"]):
        changes |= {"exit_address": after["exit_address"], "learned_at": None}
    origins = row["origin"].split(", ")
    if new.ways != old.ways and one.origin not in origins:
        origin = one.origin if new.endpoint != old.endpoint else ", ".join([*origins, one.origin])
        changes |= {"origin": origin, "region": one.region or row["region"]}
    words = _words(old, new) or (["exit: its file's now"] if "learned_at" in changes else [])
    return changes, ", ".join(words)


def _merged(old: Key, row: Mapping[Any, Any], one: Found, touched: Collection[int]) -> Key:
    """OLD with the file's values: its endpoint is added or replaces the others, and its exit counts if it has one."""
    key = one.key
    elsewhere = key.server not in {way.host for way in old.ways} or key.server_public != old.server_public
    another_file = one.origin not in row["origin"].split(", ") or row["id"] in touched
    beside = _other_family(old.server, key.server) or (old.server == key.server and another_file)
    if key.endpoint in old.ways:
        ways = old.ways
    elif beside and key.server_public == old.server_public:
        ways, elsewhere = (*old.ways, key.endpoint), False
    else:
        ways = (key.endpoint,)
    known = (None, None) if elsewhere else (old.exit_address, old.exit_address_v6)
    return replace(
        key,
        private=old.private,
        server=ways[0].host,
        port=ways[0].port,
        others=Ways(ways[1:]),
        exit_address=key.exit_address or known[0],
        exit_address_v6=key.exit_address_v6 or known[1],
    )


def _words(old: Key, new: Key) -> list[str]:
    found = []
    if new.endpoint != old.endpoint:
        found.append(f"endpoint: {old.endpoint} -> {new.endpoint}")
    found += [f"another way in: {way}" for way in new.ways if new.endpoint == old.endpoint and way not in old.ways]
    for one in fields(Key):
        before, after = getattr(old, one.name), getattr(new, one.name)
        if one.name in _NAMES and before != after:
            secret = isinstance(before or after, Secret) or one.name == "server_public"
            found.append(
                f"{_NAMES[one.name]}: " + ("another" if secret else f"{before or 'none'} -> {after or 'none'}")
            )
    return found


def _change(db: sa.Connection, row: Mapping[Any, Any], changes: Mapping[str, Any]) -> int:
    """Change ROW, or if it is leased or unreadable, insert a changed copy; returns the id of the changed row."""
    this, leased = keys.c.id == row["id"], is_leased(db, row["id"])
    if not leased and isinstance(key_in(row), Key):
        db.execute(sa.update(keys).where(this).values(changes))
        return int(row["id"])
    # Under another id: a running netctl does not choose the id of a row again that it could not read.
    db.execute(sa.update(keys).where(this).values(leaving=1))
    made = _insert(db, {**{name: value for name, value in row.items() if name not in _FRESH}, **changes})
    if not leased:
        db.execute(sa.delete(keys).where(this))
    return made


def is_leased(db: sa.Connection, key_id: int) -> bool:
    """Whether a lease of that row has not ended."""
    busy = sa.and_(leases.c.key_id == key_id, leases.c.state != "ended")
    return db.scalar(sa.select(leases.c.id).where(busy)) is not None


def _insert(db: sa.Connection, values: Mapping[str, Any]) -> int:
    made = db.scalar(sa.insert(keys).values(values).returning(keys.c.id))
    assert made is not None
    return int(made)
