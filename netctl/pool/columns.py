"""Converts a key to a row and back. The columns are derived from the fields of netctl.plan.key.Key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, NamedTuple, get_args, get_type_hints

import sqlalchemy as sa

from netctl.plan.key import Endpoint, Key, Secret, Ways


class _Codec(NamedTuple):
    column: type[sa.types.TypeEngine[Any]]
    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


_CODECS: Mapping[Any, _Codec] = {
    Ways: _Codec(
        sa.Text, lambda ways: " ".join(map(str, ways)), lambda text: Ways(tuple(map(Endpoint.parse, text.split())))
    ),
    str: _Codec(sa.Text, str, str),
    int: _Codec(sa.Integer, int, int),
    Secret: _Codec(sa.LargeBinary, Secret.reveal, Secret),
    IPv4Address: _Codec(sa.Text, str, ip_address),
    IPv6Address: _Codec(sa.Text, str, ip_address),
}
_KINDS: Mapping[str, tuple[Any, ...]] = {name: get_args(hint) or (hint,) for name, hint in get_type_hints(Key).items()}
"""The types that each field may have, with None where the value may be unknown."""


def columns() -> list[sa.Column[Any]]:
    """The columns that hold a key."""
    return [
        sa.Column(
            name,
            _CODECS[kinds[0]].column,
            nullable=type(None) in kinds,
            server_default="" if kinds[0] is Ways else None,
        )
        for name, kinds in _KINDS.items()
    ]


def row_of(key: Key) -> dict[str, Any]:
    """KEY as values of its columns."""
    values = ((name, getattr(key, name)) for name in _KINDS)
    return {name: None if value is None else _CODECS[_KINDS[name][0]].write(value) for name, value in values}


def key_of(row: Mapping[Any, Any]) -> Key:
    """The key in ROW."""
    return Key(**read(row, _KINDS))


def read(row: Mapping[Any, Any], names: Iterable[str]) -> dict[str, Any]:
    """Those of NAMES that are fields of a key, with their values in ROW."""
    return {
        name: None if row[name] is None else _CODECS[_KINDS[name][0]].read(row[name])
        for name in names
        if name in _KINDS
    }
