"""WireGuard client files: text in, a frozen Key or every mistake out. Key material never enters a message.

An ordinary `.conf` file of a VPN provider, one peer. The comment `# ExitAddress = 203.0.113.11` gives
the address the world sees, and may stand once more for IPv6; without it the IPv4 address is learned at the
key's first proof.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
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
from typing import TypeVar, final

from fleet.wire import Address

T = TypeVar("T")
KEY_BYTES = 32
_EXIT = re.compile(r"^[#;]\s*ExitAddress\s*=\s*(\S+)\s*$", re.IGNORECASE)
_HOST = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?$")
_REPEATED = {"address", "dns", "allowedips"}
"""Entries that may stand more than once in a section; wg-quick(8) joins them."""


@final
class Secret:
    """32 bytes that no log, traceback or repr shows; compared in constant time."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        if len(value) != KEY_BYTES:
            raise ValueError(f"a WireGuard key has {KEY_BYTES} bytes")
        self._value = bytes(value)

    @classmethod
    def parse(cls, text: str) -> Secret:
        """From the base64 of a .conf file; raises ValueError without repeating the text."""
        return cls(_decode(text))

    @classmethod
    def parse_private(cls, text: str) -> Secret:
        """A private key, with the bits set as every device sets them (RFC 7748, 5): else it never reads back equal."""
        value = bytearray(_decode(text))
        if len(value) == KEY_BYTES:
            value[0] &= 248
            value[31] = value[31] & 127 | 64
        return cls(bytes(value))

    def reveal(self) -> bytes:
        """The 32 bytes; for the kernel, wireguard-go and the key store alone."""
        return self._value

    def public(self) -> str:
        """The public key that belongs to it, base64."""
        # Asked for when keys are imported; the server would carry 7 MB for nothing.
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        key = X25519PrivateKey.from_private_bytes(self._value).public_key()
        return base64.b64encode(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()

    def __repr__(self) -> str:
        return "Secret(hidden)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a secret is not pickled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One client key of a pool: everything a tunnel needs."""

    private: Secret
    preshared: Secret | None = None
    address: IPv4Address
    """The leased address inside the tunnel."""
    address_v6: IPv6Address | None = None
    """None: the tunnel carries no IPv6."""
    server_public: str
    """The server's public key, base64."""
    endpoint_host: str
    """Address or name of the server."""
    endpoint_port: int
    exit_address: Address | None = None
    exit_address_v6: IPv6Address | None = None

    @property
    def server(self) -> str:
        """The exit server's name: what two keys of one server share."""
        return self.endpoint_host


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
    host, port = endpoint
    key = Key(
        private=private,
        preshared=preshared,
        address=addresses[0],
        # A server that is not asked for IPv6 carries none.
        address_v6=None if all_v6 is False else addresses[1],
        server_public=server_public,
        endpoint_host=host,
        endpoint_port=port,
        exit_address=exits[0],
        exit_address_v6=exits[1],
    )
    return key, []


def _exits(texts: list[str], mistakes: list[str]) -> tuple[IPv4Address | None, IPv6Address | None]:
    """The exit of either family that TEXTS name; the last of a family counts."""
    v4, v6 = None, None
    for text in texts:
        try:
            found = ip_address(text)
        except ValueError:
            mistakes.append(f"ExitAddress: {text!r} is no address")
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


def _decode(text: str) -> bytes:
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is no base64 key") from None
    if len(value) != KEY_BYTES:
        raise ValueError(f"has {len(value)} bytes instead of {KEY_BYTES}")
    return value


def _public_key(text: str) -> str:
    return base64.b64encode(_decode(text)).decode()


def _tunnel_addresses(text: str) -> tuple[IPv4Address, IPv6Address | None]:
    """The first of each family."""
    v4, v6 = [], []
    for part in text.split(","):
        try:
            found = ip_interface(part.strip())
        except ValueError:
            raise ValueError(f"{part.strip()!r} is no address") from None
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
    for part in filter(None, map(str.strip, text.split(","))):
        try:
            found.append(ip_network(part, strict=False))
        except ValueError:
            raise ValueError(f"{part!r} is no network") from None
    return [*collapse_addresses(one for one in found if isinstance(one, IPv6Network))] == [IPv6Network("::/0")]


def _endpoint(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError("is not HOST:PORT")
    try:
        ip_address(host)
    except ValueError:
        if not _HOST.match(host):
            raise ValueError("is not HOST:PORT") from None
    return host, int(port)
