"""The keys of each VPN server, as numbers from netctl, the worst server first. Pure."""

from __future__ import annotations

from pydantic import BaseModel

from fleet.sockets.netctl_api import ServerKeys, Servers
from hub.web.cards import Level, ranked


class KeysOf(ServerKeys, frozen=True):
    """The keys of one server, judged."""

    state: str
    """`none_left`: none can be leased, now or soon. `some_aside`: some have failed. `usable`: neither."""
    level: Level


class Keys(BaseModel, frozen=True):
    """The keys of all servers."""

    servers: tuple[KeysOf, ...]
    more: int
    """Servers that are not listed."""


def judged(found: Servers) -> Keys:
    """FOUND with a word for each server."""
    return Keys(servers=tuple(sorted(map(_judged, found.servers), key=_rank)), more=found.more)


def _judged(one: ServerKeys) -> KeysOf:
    state, level = _word(one)
    return KeysOf(**one.model_dump(), state=state, level=level)


def _word(one: ServerKeys) -> tuple[str, Level]:
    if one.leased + one.free + one.cooling == 0:
        return "none_left", "wrong" if one.aside else "watch"
    return ("some_aside", "watch") if one.aside else ("usable", "fine")


def _rank(one: KeysOf) -> tuple[int, str, str]:
    return ranked(one.level), one.region or "", one.server
