"""Parses the values of a client file's entries. Messages show the wrong part of a value only if it cannot be a key."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    collapse_addresses,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import NamedTuple, TypeVar

from fleet.numbers import PLACEHOLDERS_V6
from fleet.sockets.wire import Address
from netctl.plan.key import Endpoint, Secret, could_be_key, decode

T = TypeVar("T")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_RANDOM = re.compile(r"[A-Za-z0-9+/_=]{16}")
_RUN = re.compile(r"[A-Za-z0-9+/=]{6,}")
_WORD = re.compile(r"/?([A-Z]?[a-z0-9]*|[A-Z0-9]*)(/\d*)?")
"""A run of such characters that is a name or an address; a part of a key has both upper and lower case."""
_IPV6 = re.compile(r"(?=.*:)(?!(.*:){9})[0-9A-Fa-f:.]{2,45}(/\d{0,4})?")
MOST_IPV4 = 3 * 2**30
"""The number of addresses that AllowedIPs must have: some programs write "everything" as IPv4 without its private,
multicast and reserved networks."""


class Inside(NamedTuple):
    """The client's addresses in the tunnel."""

    v4: IPv4Address
    v6: IPv6Address | None


def odd(part: str, whole: str) -> str:
    """PART of the value WHOLE for a message, after a blank; empty if WHOLE could be a key or a part of one."""
    packed = re.sub(r"[\s:-]", "", whole)
    hidden = could_be_key(whole) or (_RANDOM.search(packed) and not _IPV6.fullmatch(whole.strip()))
    return "" if hidden or len(part) > 64 or not all(map(_WORD.fullmatch, _RUN.findall(part))) else f" {part!r}"


def private_key(text: str) -> Secret:
    """A client's private key."""
    return _key(_filled_in(text), Secret.parse_private)


def public_key(text: str) -> str:
    """A server's public key, as base64."""
    return _key(_filled_in(text), lambda packed: base64.b64encode(decode(packed)).decode())


def _filled_in(text: str) -> str:
    """TEXT; raises ValueError for a placeholder like XXXX...= and for all zeros, which WireGuard treats as no key."""
    if len({*text.strip().rstrip("=")}) == 1:
        raise ValueError("is no key, only a placeholder: fill in the key")
    return text


def preshared_key(text: str) -> Secret | None:
    """A preshared key; None for all zeros, which WireGuard treats as none."""
    found = _key(text, Secret.parse)
    return found if any(found.reveal()) else None


def _key(text: str, parse: Callable[[str], T]) -> T:
    packed = "".join(text.split())
    try:
        return parse(f"{packed}=" if len(packed) == 43 else packed)  # copying by a double click loses the final "="
    except ValueError as error:
        raise ValueError(f"{error}: copy it again from where you have the file") from None


def inside(text: str) -> Inside:
    """The first address of each family in TEXT."""
    found: list[Address] = []
    for part in _parts(text):
        try:
            one = _address(str(ip_interface(part).ip))
        except ValueError:
            raise ValueError(f"{odd(part, text).strip() or 'it'} is no address") from None
        if one in PLACEHOLDERS_V6:  # the range for IPv4 depends on the settings of a start
            raise ValueError(f"{one} is among the workers' placeholders ({PLACEHOLDERS_V6}): ask for another address")
        if _is_unusable(one):
            raise ValueError(f"{one} cannot be the address of a tunnel")
        found.append(one)
    v4 = [one for one in found if isinstance(one, IPv4Address)]
    v6 = [one for one in found if isinstance(one, IPv6Address) and not one.is_link_local]
    if not v4:
        raise ValueError("has no IPv4 address, and tunnels carry IPv4")
    return Inside(v4[0], v6[0] if v6 else None)


def networks(text: str) -> Sequence[IPv4Network | IPv6Network]:
    """The networks in TEXT, the value of AllowedIPs."""
    found = []
    for part in _parts(text):
        try:
            found.append(ip_network(part, strict=False))
        except ValueError:
            raise ValueError(f"{odd(part, text).strip() or 'it'} is no network") from None
    return found


def is_most_of_ipv4(allowed: Sequence[IPv4Network | IPv6Network]) -> bool:
    """Whether ALLOWED reach the internet: all of IPv4, in any number of parts, or all but the private networks."""
    v4 = collapse_addresses(one for one in allowed if isinstance(one, IPv4Network))
    return sum(one.num_addresses for one in v4) >= MOST_IPV4


def is_all_of_ipv6(allowed: Sequence[IPv4Network | IPv6Network]) -> bool:
    """Whether ALLOWED are all of IPv6, in any number of parts."""
    return [*collapse_addresses(one for one in allowed if isinstance(one, IPv6Network))] == [IPv6Network("::/0")]


def endpoint(text: str) -> Endpoint:
    """A server's address, or its name in the form that resolvers use, and its port."""
    packed = "".join(text.split())
    shown = odd(packed, text)
    try:
        host, port = Endpoint.parse(packed)
    except ValueError:
        raise ValueError(f"{shown.strip() or 'it'} is not HOST:PORT") from None
    if not 0 < port < 65536:
        raise ValueError(f"{shown.strip() or 'it'} has no port from 1 to 65535")
    if "%" in host:
        raise ValueError(f"{shown.strip() or 'it'} has a scope (%), unknown elsewhere: take a public address")
    try:
        address = _address(host)
    except ValueError:
        # A name is sent to resolvers in plain text, so it must not be a key.
        if could_be_key(text) or not (name := _name(host)):
            raise ValueError(f"{shown.strip() or 'it'} is not HOST:PORT") from None
        return Endpoint(name, port)
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    if address.is_unspecified or address.is_multicast or _is_of_no_server(address):
        raise ValueError(f"{address} is the address of no server")
    return Endpoint(str(address), port)


def _is_of_no_server(address: Address) -> bool:
    return address.is_reserved if isinstance(address, IPv4Address) else address.is_link_local


def host(server: str) -> str:
    """SERVER in the form that endpoint() returns."""
    return endpoint(f"[{server}]:1" if ":" in server else f"{server}:1").host


def _name(host: str) -> str:
    """HOST as resolvers use it: lower case, other scripts as xn--, without a final dot; empty if it is not a name."""
    try:
        name = host.removesuffix(".").lower()
        name = name if name.isascii() else name.encode("idna").decode()
    except UnicodeError:
        return ""
    labels = name.split(".")
    good = len(name) <= 253 and all(map(_LABEL.fullmatch, labels))
    return name if good and not labels[-1].isdecimal() else ""


def mtu_bytes(text: str) -> int | None:
    """An MTU in bytes; None for 0 or `auto`, which some programs write."""
    if text.lower() in ("0", "auto"):
        return None
    if not (text.isascii() and text.isdecimal() and 576 <= int(text) <= 9000):
        raise ValueError(f"{odd(text, text).strip() or 'it'} is no number from 576 to 9000")
    return int(text)


def exits(text: str) -> Iterator[Address]:
    """The addresses at the start of TEXT, the value of `ExitAddress =`; other words may follow them."""
    words = _parts(text)
    for number, word in enumerate(words):
        try:
            found = ip_interface(word.strip("()"))
            if found.network.num_addresses > 1 or "%" in word:
                raise ValueError
        except ValueError:
            if number:
                return
            raise ValueError(f"{odd(word, text).strip() or 'it'} is no address") from None
        yield ip_address(found.ip)
    if not words:
        raise ValueError("has no address: write it, or delete the line")


def _parts(text: str) -> list[str]:
    """The parts of TEXT between commas, semicolons or blanks, without empty ones."""
    return [part for part in re.split(r"[\s,;]+", re.sub(r"\s*/\s*", "/", text)) if part]


def _address(text: str) -> Address:
    """The address in TEXT. Raises ValueError, also for a scope (RFC 4007), which is valid only on one machine."""
    found = ip_address(text)
    if "%" in text:
        raise ValueError
    return found


def _is_unusable(address: Address) -> bool:
    """Whether no packet can be sent from ADDRESS."""
    return (
        address.is_unspecified
        or address.is_loopback
        or address.is_multicast
        or address == IPv4Address("255.255.255.255")
    )
