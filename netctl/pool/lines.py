"""The keys as people see them: each key at each of its servers, with its state and history. Contains no secrets."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import sqlalchemy as sa

from fleet.sockets.wire import Address
from netctl.plan.key import Endpoint, Key
from netctl.pool.columns import key_of, read
from netctl.pool.schema import keys, leases


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLine:
    """One key at one server."""

    key_id: int
    public_key: str
    server: str
    ways: tuple[str, ...]
    """The server's endpoints, in the order in which they are tried."""
    region: str | None
    address: IPv4Address | None
    """None where the row cannot be read."""
    address_v6: IPv6Address | None
    exit_address: Address | None
    exit_address_v6: IPv6Address | None
    mtu_bytes: int | None
    origin: str
    """The names of its files."""
    state: str
    """`free`, `leased`, `elsewhere` (leased at another server), `cooling`, `aside`, `retired` or `leaving`."""
    leased_to: str | None
    learned_at: datetime | None
    """When the exit was learned; None: the key's file names it, or it is not known."""
    last_good: datetime | None
    last_failure: datetime | None
    why: str | None
    """What failed at last_failure."""
    aside_until: datetime | None
    """Until then the key is chosen last."""
    leases_today: int

    @property
    def trouble(self) -> str | None:
        """Why it failed, if nothing has worked since."""
        good = self.last_good and self.last_failure and self.last_good > self.last_failure
        return None if good else self.why


_SHOWN = tuple(one.name for one in fields(KeyLine))
_NOT_READ: dict[str, Any] = dict.fromkeys(("address", "address_v6", "exit_address", "exit_address_v6", "mtu_bytes"))


def key_in(row: Mapping[Any, Any]) -> Key | str:
    """The key in ROW, or why it cannot be read: one bad row must not keep workers from the other keys."""
    try:
        return key_of(row)
    except Exception as error:  # noqa: BLE001 - any error concerns only this row
        # Without the error's text, which may repeat key material.
        return f"its row in the key store cannot be read ({type(error).__name__}): remove it, import its file again"


def lines(db: sa.Connection, *, now: float, cooldown_seconds: float) -> list[KeyLine]:
    """Every key at every server, by region and server; NOW is a time of the store's clock."""
    return [_line(row, now, cooldown_seconds) for row in with_leases(db, keys)]


def with_leases(db: sa.Connection, *columns: Any) -> Sequence[Mapping[Any, Any]]:
    """COLUMNS of every key at every server, by region and server; with the `slot` that leases the key, and whether it
    does so `elsewhere`, at another server.
    """
    busy = sa.select(leases.c.key_id, leases.c.public, leases.c.slot).where(leases.c.state != "ended").subquery()
    query = sa.select(*columns, busy.c.slot, (busy.c.key_id != keys.c.id).label("elsewhere"))
    query = query.outerjoin(busy, busy.c.public == keys.c.public)
    return db.execute(query.order_by(keys.c.region, keys.c.server, keys.c.id)).mappings().all()


def _line(row: Mapping[Any, Any], now: float, cooldown_seconds: float) -> KeyLine:
    key = key_in(row)
    shown = read(row, _SHOWN) if isinstance(key, Key) else {**_NOT_READ, "server": str(row["server"])}
    ways = key.ways if isinstance(key, Key) else (Endpoint(str(row["server"]), 0),)
    return KeyLine(
        key_id=row["id"],
        public_key=row["public"],
        ways=tuple(map(str, ways)),
        region=row["region"],
        origin=row["origin"],
        state=state(row, now, cooldown_seconds),
        leased_to=f"w{row['slot']}" if row["slot"] and not row["elsewhere"] else None,
        learned_at=moment(row["learned_at"]),
        last_good=moment(row["good_at"]),
        last_failure=moment(row["failed_at"]),
        why=row["trouble"] or (key if isinstance(key, str) else None),
        aside_until=moment(row["aside_until"]),
        leases_today=row["good_leases"] if row["day"] == datetime.now().astimezone().toordinal() else 0,
        **shown,
    )


def state(row: Mapping[Any, Any], now: float, cooldown_seconds: float) -> str:
    """The state of a key at a server, as in KeyLine.state; NOW is a time of the store's clock."""
    if row["leaving"]:
        return "leaving"
    if row["slot"] and not row["elsewhere"]:
        return "leased"
    if row["retired"]:
        return "retired"
    if row["slot"]:
        return "elsewhere"
    if row["aside_until"] is not None and row["aside_until"] > time.time():
        return "aside"
    rests = row["last_used_at"] is not None and row["last_used_at"] + cooldown_seconds > now
    return "cooling" if rests else "free"


def moment(seconds: float | None) -> datetime | None:
    """SECONDS of the wall clock as a UTC time; None for 0 or None."""
    return datetime.fromtimestamp(seconds, timezone.utc) if seconds else None
