"""Checks what a key service has given: a usable key, or the reason why not. Pure; no key enters a message."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from fleet.sockets.keyservice_api import Allocated
from netctl.plan.key import Key
from netctl.pool import conf, values

T = TypeVar("T")


class Judged(NamedTuple):
    """The result of the check."""

    public: str
    """The key's public key; "" where it is not known."""
    key: Key | None
    why: str = ""
    """Why there is no key."""


def judged(told: Allocated, asked: str) -> Judged:
    """Check the answer TOLD to a request for a key of the server ASKED ("": any server)."""
    public = ""
    try:
        public = values.public_key(told.public_key) if told.public_key is not None else ""
        key = _of_parts(told) if told.config is None else _of_file(told.config)
        other = bool(asked) and values.host(asked) != key.server
    except ValueError as error:
        return Judged(public, None, str(error))
    own = key.private.public()
    if public and public != own:
        return Judged(public, None, "its public key is not that of its private key")
    if other:
        return Judged(own, None, f"it is a key of another server than {asked}, which was asked for")
    return Judged(own, key)


def _of_file(config: str) -> Key:
    found = conf.parse(config)
    if found.key is None:
        raise ValueError(f"its client file: {'; '.join(found.mistakes)}")
    return found.key


def _of_parts(told: Allocated) -> Key:
    """The key in the separate fields of TOLD; raises ValueError naming the invalid one."""
    server = told.server or ""
    if told.port is not None:
        server = f"[{server}]:{told.port}" if ":" in server else f"{server}:{told.port}"
    inside = _part("address", values.inside, told.address)
    endpoint = _part("server", values.endpoint, server)
    return Key(
        private=_part("private key", values.private_key, told.private_key),
        address=inside.v4,
        address_v6=inside.v6,
        server_public=_part("server key", values.public_key, told.server_key),
        server=endpoint.host,
        port=endpoint.port,
    )


def _part(name: str, read: Callable[[str], T], text: str | None) -> T:
    try:
        return read(text or "")
    except ValueError as error:
        raise ValueError(f"its {name} {error}") from None
