"""Parses WireGuard client files: returns a frozen Key or all mistakes, and the entries that the fleet does not use.

The input is an ordinary `.conf` file of a VPN provider. The comment `# ExitAddress = 203.0.113.11` gives the address
that the internet sees, and a second one the IPv6 address; without it netctl finds out the IPv4 address (netctl/exits).
Of several peers, the one whose AllowedIPs carry all of IPv4 is the server.

Key material never enters a message, on whatever line it is: netctl.pool.values shows the wrong part of a value only
where it cannot contain a key.
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
"""Entry names that messages may repeat as the file spells them; any other could be a key that was pasted there."""
_AMNEZIA = re.compile(r"[sh][1-4]")
"""AmneziaWG's parameters that both sides must share: S1 to S4, H1 to H4. Its others concern only the client."""
_LAN_ALONE = "ask for a file with 0.0.0.0/0, or write that yourself if the server allows it"


class Parsed(NamedTuple):
    """The parsed content of a file."""

    key: Key | None
    mistakes: list[str]
    """Empty where there is a key."""
    unused: str = ""
    """The entries that the fleet does not use."""
    label: str = ""
    """The comments at the peer, which often name the server."""


def parse(content: str) -> Parsed:
    """The key in CONTENT, or every mistake with the name of its entry."""
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
        document.mistakes.append("[Peer] PublicKey: is the same as PrivateKey: copy the server's public key")
    preshared = reader.take(peer, "PresharedKey", values.preshared_key, needed=False)
    mtu_bytes = reader.take(own, "MTU", values.mtu_bytes, needed=False)
    exit_v4, exit_v6 = _exits(document)
    if document.mistakes or private is None or inside is None or server_public is None or endpoint is None:
        return Parsed(None, document.mistakes)
    key = Key(
        private=private,
        preshared=preshared,
        address=inside.v4,
        # Without ::/0 in AllowedIPs the server carries no IPv6, nor does a link with an MTU below 1280.
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
    """Converts entries to their types and collects the mistakes in them."""

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
    """Why DOCUMENT is not a client file at all; "" if it is one, perhaps with mistakes."""
    own, peers = document.titled("interface"), document.titled("peer")
    if not own and not peers:
        return "is no WireGuard client file: it has no [Interface] and no [Peer]; get the provider's .conf file"
    if peers and all(_is_client(one) for one in peers):
        return "is a server's file, each [Peer] in it is a client: create a client file on the server, and import that"
    if (not own or not peers) and (others := [one for one in document.sections if one not in own + peers]):
        return f"has no {'[Peer]' if own else '[Interface]'}: is it the section {_title(others[0])}?"
    return ""


def _is_client(peer: Section) -> bool:
    """Whether PEER is a client in a server's file."""
    return "allowedips" in peer.values and "endpoint" not in peer.values and not _carries_ipv4(peer)


def _interface(document: Document) -> Section:
    """The [Interface] section. Notes a mistake where there are several, or where it has AmneziaWG's parameters."""
    found = document.titled("interface")
    if len(found) > 1:
        document.mistakes.append("has more than one [Interface]: divide it into one file for each")
    own = found[-1] if found else Section(title="Interface")
    foreign = [own.names[name] for name, value in own.values.items() if _is_foreign(name, value)]
    if foreign:
        document.mistakes.append(
            f"is for AmneziaWG ({', '.join(foreign)}): its server does not speak WireGuard; ask for a WireGuard file, "
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
    document.mistakes.append(f"has {how_many} AllowedIPs = 0.0.0.0/0: keep only the one that is the exit")
    return found[-1]


def _carries_ipv4(peer: Section) -> bool:
    try:
        return values.is_most_of_ipv4(values.networks(peer.values.get("allowedips", "")))
    except ValueError:
        return False


def _allowed(value: str) -> bool:
    """Whether the networks in VALUE carry IPv6 too; raises ValueError where they do not carry IPv4."""
    found = values.networks(value)
    if not values.is_most_of_ipv4(found):
        raise ValueError(f"reaches only{values.odd(value, value)} and no website: {_LAN_ALONE}")
    return values.is_all_of_ipv6(found)


def _exits(document: Document) -> tuple[IPv4Address | None, IPv6Address | None]:
    """The IPv4 and the IPv6 exit address that the file names; None where it names none."""
    found: list[IPv4Address | IPv6Address] = []
    for said in document.exits:
        try:
            found += values.exits(said)
        except ValueError as error:
            document.mistakes.append(f"ExitAddress: {error}")
    v4 = [*dict.fromkeys(one for one in found if isinstance(one, IPv4Address))]
    v6 = [*dict.fromkeys(one for one in found if isinstance(one, IPv6Address))]
    if len(v4) > 1 or len(v6) > 1:
        document.mistakes.append("ExitAddress: more than one of a family: keep only the one that the internet sees")
    return (v4[0] if v4 else None), (v6[0] if v6 else None)


def _unused(document: Document, own: Section, peer: Section) -> list[str]:
    """The names of unused entries: the fleet makes links, routes, rules and marks itself, and runs no commands."""
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
    """UNUSED, pairs of (origin, words), as lines; files with the same words share one line."""
    by_words: dict[str, list[str]] = {}
    for origin, words in unused:
        if words:
            by_words.setdefault(words, []).append(origin)
    return [f"{first}{_more(len(rest))}: not used: {words}" for words, (first, *rest) in by_words.items()]


def _more(count: int) -> str:
    return f" and {count} more" if count else ""
