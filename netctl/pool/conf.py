"""WireGuard client files: text in, a frozen Key or every mistake out.

Key material never enters a message, on whatever line it stands: a mistake has the line's number, or the entry's name
and which of its parts it is about, and repeats nothing of the file.

An ordinary `.conf` file of a VPN provider, one peer. The comment `# ExitAddress = 203.0.113.11` gives
the address the world sees, and may stand once more for IPv6; without it netctl finds the IPv4 address
out (netctl/exits).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv6Address,
    IPv6Network,
    collapse_addresses,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import TypeVar

from fleet.numbers import PLACEHOLDERS, PLACEHOLDERS_V6
from fleet.wire import Address
from netctl.plan.key import Endpoint, Key, Secret, could_be_key, decode

T = TypeVar("T")
_EXIT = re.compile(r"^[#;]\s*ExitAddress\s*=\s*(\S+)\s*$", re.IGNORECASE)
_HOST = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?$")
_REPEATED = {"address", "dns", "allowedips"}
"""Entries that may stand more than once in a section; wg-quick(8) joins them."""


def parse(text: str, origin: str) -> tuple[Key | None, list[str]]:
    """The key in TEXT and no mistakes, or None and every mistake with ORIGIN and the entry's name."""
    entries, exit_texts, mistakes = _entries(text)
    reader = _Reader(entries, mistakes)
    private = reader.take("interface", "privatekey", "PrivateKey", Secret.parse_private)
    addresses = reader.take("interface", "address", "Address", _tunnel_addresses)
    all_v6 = reader.take("peer", "allowedips", "AllowedIPs", _all_v6, needed=False)
    server_public = reader.take("peer", "publickey", "PublicKey", _public_key)
    endpoint = reader.take("peer", "endpoint", "Endpoint", _endpoint)
    preshared = reader.take("peer", "presharedkey", "PresharedKey", Secret.parse, needed=False)
    exits = _exits(exit_texts, mistakes)
    if mistakes or private is None or addresses is None or server_public is None or endpoint is None:
        return None, [f"{origin}: {mistake}" for mistake in mistakes]
    key = Key(
        private=private,
        preshared=preshared,
        address=addresses[0],
        # A server that is not asked for IPv6 carries none.
        address_v6=None if all_v6 is False else addresses[1],
        server_public=server_public,
        server=endpoint.host,
        port=endpoint.port,
        exit_address=exits[0],
        exit_address_v6=exits[1],
    )
    return key, []


def _exits(texts: list[str], mistakes: list[str]) -> tuple[IPv4Address | None, IPv6Address | None]:
    """The exit of either family that TEXTS name; the last of a family counts."""
    v4, v6 = None, None
    for text in texts:
        try:
            found = _address(text)
        except ValueError:
            mistakes.append("ExitAddress: is no address")
            continue
        v4, v6 = (found, v6) if isinstance(found, IPv4Address) else (v4, found)
    return v4, v6


class _Reader:
    """Takes typed entries and gathers what is wrong with them."""

    def __init__(self, entries: dict[tuple[str, str], str], mistakes: list[str]) -> None:
        self._entries = entries
        self._mistakes = mistakes

    def take(
        self, section: str, name: str, shown: str, convert: Callable[[str], T], *, needed: bool = True
    ) -> T | None:
        text = self._entries.get((section, name))
        if text is None:
            if needed:
                self._mistakes.append(f"[{section.title()}] {shown} is missing")
            return None
        try:
            return convert(text)
        except ValueError as error:
            self._mistakes.append(f"[{section.title()}] {shown}: {error}")
            return None


def _entries(text: str) -> tuple[dict[tuple[str, str], str], list[str], list[str]]:
    found: dict[tuple[str, str], str] = {}
    mistakes: list[str] = []
    exit_texts: list[str] = []
    section, peers = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if match := _EXIT.match(line):
            exit_texts.append(match.group(1))
        line = line.partition("#")[0].strip()
        if not line or line.startswith(";"):
            continue
        if line.startswith("["):
            section = line.strip("[] ").lower()
            peers += section == "peer"
            continue
        name, equals, value = line.partition("=")
        if not equals or not section:
            # The line's content stays out of the message: it may be half a key.
            mistakes.append(f"line {number} is no `Name = value` of a section")
            continue
        place = (section, name.strip().lower())
        if place in found and place[1] in _REPEATED:
            found[place] += "," + value.strip()
        else:
            found[place] = value.strip()
    if peers > 1:
        mistakes.append("has more than one [Peer]; a client key has one server")
    return found, exit_texts, mistakes


def _public_key(text: str) -> str:
    return base64.b64encode(decode(text)).decode()


def _tunnel_addresses(text: str) -> tuple[IPv4Address, IPv6Address | None]:
    """The first of each family."""
    v4, v6 = [], []
    for number, part in enumerate(text.split(","), 1):
        try:
            found = ip_interface(part.strip())
            _address(str(found.ip))
        except ValueError:
            raise ValueError(f"part {number} is no address") from None
        if _is_unusable(found.ip):
            raise ValueError(f"part {number} is no address that a tunnel can have")
        if isinstance(found, IPv4Interface):
            v4.append(found.ip)
        else:
            v6.append(found.ip)
    if not v4:
        raise ValueError("has no IPv4 address, and tunnels carry IPv4")
    return v4[0], v6[0] if v6 else None


def _all_v6(text: str) -> bool:
    """Whether these networks are all of IPv6 together, however they are cut."""
    found = []
    for number, part in enumerate(filter(None, map(str.strip, text.split(","))), 1):
        try:
            found.append(ip_network(part, strict=False))
        except ValueError:
            raise ValueError(f"part {number} is no network") from None
    return [*collapse_addresses(one for one in found if isinstance(one, IPv6Network))] == [IPv6Network("::/0")]


def _endpoint(text: str) -> Endpoint:
    wrong = ValueError("is not HOST:PORT")
    try:
        found = Endpoint.parse(text)
    except ValueError:
        raise wrong from None
    try:
        _address(found.host)
    except ValueError:
        # A name is asked of resolvers, in the clear: none that could be a key.
        if not _HOST.match(found.host) or could_be_key(found.host):
            raise wrong from None
    if not 0 < found.port < 65536:
        raise wrong
    return found


def _address(text: str) -> Address:
    """The address in TEXT, without a scope (RFC 4007): that has a meaning on the machine alone that wrote it."""
    found = ip_address(text)
    if "%" in text:
        raise ValueError
    return found


def _is_unusable(address: Address) -> bool:
    """Whether nothing can be sent from ADDRESS, or it is one of those that netctl translates."""
    return (
        address.is_unspecified
        or address.is_loopback
        or address.is_multicast
        or address in PLACEHOLDERS
        or address in PLACEHOLDERS_V6
        or address == IPv4Address("255.255.255.255")
    )
