"""WireGuard client files: text in, a frozen Key or every mistake out, and what the file says that is not used.

An ordinary `.conf` file of a VPN provider. The comment `# ExitAddress = 203.0.113.11` gives the address the world
sees, and may stand once more for IPv6; without it netctl finds the IPv4 address out (netctl/exits). Of several peers
the one that carries all of IPv4 is the server.

Key material never enters a message, on whatever line it stands: netctl.pool.values shows the odd part of a value only
where no key can be in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple, TypeVar

from fleet.client_files import sections, text
from fleet.client_files.sections import Document, Section
from netctl.plan.key import LEAST_IPV6_BYTES, Key
from netctl.pool import values

T = TypeVar("T")
_USED = {"interface": {"privatekey", "address", "mtu"}, "peer": {"publickey", "presharedkey", "allowedips", "endpoint"}}
_KNOWN = (
    "dns table fwmark preup postup predown postdown saveconfig listenport persistentkeepalive excludedapplications "
    "includedapplications privatekey address mtu publickey presharedkey allowedips endpoint"
)
"""What is named as the file spells it; another name might be a key that was pasted there."""
_AMNEZIA = re.compile(r"[sh][1-4]")
"""AmneziaWG's parameters that both sides must share; its others are of the client alone."""
_LAN_ALONE = "ask for a file with 0.0.0.0/0, or write that, if the server lets it through"


class Parsed(NamedTuple):
    """What a file holds."""

    key: Key | None
    mistakes: list[str]
    """None where there is a key."""
    unused: str = ""
    """What it says and the fleet does not use."""
    label: str = ""
    """What its comments call the server."""


def parse(content: str) -> Parsed:
    """The key in CONTENT, or every mistake with its entry's name."""
    document = sections.taken_apart(text.ordinary(content))
    if refusal := _no_client(document):
        return Parsed(None, [refusal])
    reader = _Reader(document.mistakes)
    own, peer = _interface(document), _peer(document)
    private = reader.take(own, "PrivateKey", values.private_key)
    inside = reader.take(own, "Address", values.inside)
    allowed = reader.take(peer, "AllowedIPs", _allowed, needed=False)
    server_public = reader.take(peer, "PublicKey", values.public_key)
    endpoint = reader.take(peer, "Endpoint", values.endpoint)
    if server_public and own.values.get("privatekey") == peer.values["publickey"]:
        document.mistakes.append("[Peer] PublicKey: is the PrivateKey: copy the server's own key")
    preshared = reader.take(peer, "PresharedKey", values.preshared_key, needed=False)
    mtu_bytes = reader.take(own, "MTU", values.mtu_bytes, needed=False)
    exit_v4, exit_v6 = _exits(document)
    if document.mistakes or private is None or inside is None or server_public is None or endpoint is None:
        return Parsed(None, document.mistakes)
    key = Key(
        private=private,
        preshared=preshared,
        address=inside.v4,
        # A server that is not asked for IPv6 carries none, and no link does in packets as small as that.
        address_v6=None if allowed is False or (mtu_bytes or LEAST_IPV6_BYTES) < LEAST_IPV6_BYTES else inside.v6,
        server_public=server_public,
        server=endpoint.host,
        port=endpoint.port,
        exit_address=exit_v4,
        exit_address_v6=exit_v6,
        mtu_bytes=mtu_bytes,
    )
    words = _unused(document, own, peer)
    if inside.v6 and not key.address_v6:
        words.append(f"IPv6 ({'AllowedIPs has no ::/0' if allowed is False else 'it needs an MTU of 1280'})")
    return Parsed(key, [], ", ".join(words), " ".join(peer.comments))


class _Reader:
    """Takes typed entries and gathers what is wrong with them."""

    def __init__(self, mistakes: list[str]) -> None:
        self._mistakes = mistakes

    def take(self, section: Section, name: str, convert: Callable[[str], T], *, needed: bool = True) -> T | None:
        value = section.values.get(name.lower())
        if value is None:
            if needed:
                self._mistakes.append(f"[{section.title}] {name} is missing")
            return None
        try:
            return convert(value)
        except ValueError as error:
            self._mistakes.append(f"[{section.title}] {name}: {error}")
            return None


def _no_client(document: Document) -> str:
    """What DOCUMENT is, if it is no client's file at all; "" for one that may have mistakes."""
    own, peers = document.titled("interface"), document.titled("peer")
    if not own and not peers:
        return "is no WireGuard client file: it has no [Interface] and no [Peer]; get the provider's .conf file"
    if peers and all(_is_client(one) for one in peers):
        return "is a server's own file, each [Peer] in it is a client: make a client's file there, and import that"
    if (not own or not peers) and (others := [one for one in document.sections if one not in own + peers]):
        return f"has no {'[Peer]' if own else '[Interface]'}: is it what stands as {_title(others[0])}?"
    return ""


def _is_client(peer: Section) -> bool:
    """Whether PEER is one of a server's."""
    return "allowedips" in peer.values and "endpoint" not in peer.values and not _carries_ipv4(peer)


def _interface(document: Document) -> Section:
    """[Interface], which stands once; what stands in it is plain WireGuard's."""
    found = document.titled("interface")
    if len(found) > 1:
        document.mistakes.append("has more than one [Interface]: divide it into one file for each")
    own = found[-1] if found else Section(title="Interface")
    foreign = [own.names[name] for name, value in own.values.items() if _is_foreign(name, value)]
    if foreign:
        document.mistakes.append(
            f"is of AmneziaWG ({', '.join(foreign)}): its server answers no plain WireGuard; ask for a WireGuard file, "
            "or for a server with H1..H4 = 1..4 and S1..S4 = 0"
        )
    return own


def _is_foreign(name: str, value: str) -> bool:
    if not _AMNEZIA.fullmatch(name):
        return False
    plain = {"0"} if name[0] == "s" else {name[1], f"{name[1]}-{name[1]}"}
    return "".join(value.split()) not in plain


def _peer(document: Document) -> Section:
    """The one [Peer], or of several the one whose AllowedIPs carry all of IPv4."""
    found = document.titled("peer")
    if len(found) < 2:
        return found[0] if found else Section(title="Peer")
    ways = [peer for peer in found if _carries_ipv4(peer)]
    if len(ways) == 1:
        return ways[0]
    how_many = "more than one [Peer] with" if ways else "several [Peer], none with"
    document.mistakes.append(f"has {how_many} AllowedIPs = 0.0.0.0/0: leave the one that is the exit")
    return found[-1]


def _carries_ipv4(peer: Section) -> bool:
    try:
        return values.is_most_of_ipv4(values.networks(peer.values.get("allowedips", "")))
    except ValueError:
        return False


def _allowed(value: str) -> bool:
    """Whether these carry IPv6 too; without IPv4 they are of no use."""
    found = values.networks(value)
    if not values.is_most_of_ipv4(found):
        raise ValueError(f"reaches{values.odd(value, value)} alone and no page: {_LAN_ALONE}")
    return values.is_all_of_ipv6(found)


def _exits(document: Document) -> tuple[IPv4Address | None, IPv6Address | None]:
    """The exit of either family that the file names."""
    found: list[IPv4Address | IPv6Address] = []
    for said in document.exits:
        try:
            found += values.exits(said)
        except ValueError as error:
            document.mistakes.append(f"ExitAddress: {error}")
    v4 = [*dict.fromkeys(one for one in found if isinstance(one, IPv4Address))]
    v6 = [*dict.fromkeys(one for one in found if isinstance(one, IPv6Address))]
    if len(v4) > 1 or len(v6) > 1:
        document.mistakes.append("ExitAddress: more than one of a family: leave the one that the world sees")
    return (v4[0] if v4 else None), (v6[0] if v6 else None)


def _unused(document: Document, own: Section, peer: Section) -> list[str]:
    """The names of what is not used; the fleet makes links, routes, rules and marks itself, and runs no command."""
    words = [
        _word(section, name)
        for section in (own, peer)
        for name in section.values
        if name not in _USED[section.title.lower()]
    ]
    others = [one for one in document.sections if one is not own and one is not peer]
    words += [_title(one) for one in others]
    return [*dict.fromkeys(filter(None, words))]


def _word(section: Section, name: str) -> str:
    spelled = section.names[name]
    shown = spelled if name in _KNOWN.split() else values.odd(spelled, spelled).strip(" '")
    if name != "dns":
        return shown
    value = section.values[name]
    return f"{shown}{values.odd(value, value)} (workers ask dns.resolvers)"


def _title(section: Section) -> str:
    where = section.values.get("endpoint", "")
    shown = values.odd(section.title, section.title).strip(" '")
    return f"[{shown}]{values.odd(where, where) if where else ''}"


def shared(unused: Sequence[tuple[str, str]]) -> list[str]:
    """UNUSED, of (origin, words), as lines: those of many files that say the same are one."""
    by_words: dict[str, list[str]] = {}
    for origin, words in unused:
        if words:
            by_words.setdefault(words, []).append(origin)
    return [f"{first}{_more(len(rest))}: not used: {words}" for words, (first, *rest) in by_words.items()]


def _more(count: int) -> str:
    return f" and {count} more" if count else ""
