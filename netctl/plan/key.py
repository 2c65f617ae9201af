"""A WireGuard key: its server's endpoints, and its secrets, which no log, traceback or repr shows."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple, NewType, final

from fleet.machine import syscalls
from fleet.sockets.wire import Address

KEY_BYTES = 32
# The base64 of 32 bytes, in either alphabet, with or without padding; or their 64 hexadecimal digits. A text of only
# lower-case letters is no key: 43 random characters have an upper-case one, except for one key in 10^9.
_IN_BASE64 = re.compile(r"(?=[^A-Z]*[A-Z])(?=[^a-z]*[a-z])[A-Za-z0-9+/_-]{43}")
_IN_HEX = re.compile(r"[0-9A-Fa-f]{64}")


@final
class Secret:
    """32 bytes that no log, traceback or repr shows; they are compared in constant time."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        if len(value) != KEY_BYTES:
            raise ValueError(f"a WireGuard key has {KEY_BYTES} bytes")
        self._value = bytes(value)
        syscalls.lock(self._value)  # unless the whole process is locked (netctl/privileges.py)

    @classmethod
    def parse(cls, text: str) -> Secret:
        """From the base64 in a .conf file; raises ValueError without repeating the text."""
        return cls(decode(text))

    @classmethod
    def parse_private(cls, text: str) -> Secret:
        """A private key, with the bits set as every device sets them (RFC 7748, 5), so that it reads back equal."""
        value = bytearray(decode(text))
        if len(value) == KEY_BYTES:
            value[0] &= 248
            value[31] = value[31] & 127 | 64
        return cls(bytes(value))

    def reveal(self) -> bytes:
        """The 32 bytes; only for the kernel, wireguard-go and the key store."""
        return self._value

    def public(self) -> str:
        """Its public key, as base64."""
        # Imported here because it is needed only when keys are imported: `serve` saves 7 MB of memory.
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


class Endpoint(NamedTuple):
    """An address or a name, and a UDP port; as text HOST:PORT, with an IPv6 address in brackets."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """The endpoint in TEXT; raises ValueError if it has no port. HOST is not checked."""
        host, _, port = text.rpartition(":")
        if not port.isdecimal():
            raise ValueError(f"{text!r} is not HOST:PORT")
        return cls(host.strip("[]"), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Ways = NewType("Ways", tuple[Endpoint, ...])
"""Other endpoints of a server."""


LEAST_IPV6_BYTES = 1280
"""The smallest MTU of a link with IPv6 (RFC 8200, 5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One client key at one server: everything that a tunnel needs."""

    private: Secret
    preshared: Secret | None = None
    address: IPv4Address
    """The leased address inside the tunnel."""
    address_v6: IPv6Address | None = None
    """None: the tunnel carries no IPv6."""
    server_public: str
    """The server's public key, base64."""
    server: str
    """Address or name of the exit server; two keys of one server have it in common."""
    port: int
    others: Ways = Ways(())
    """Other ports or addresses of the same server, tried in turn."""
    exit_address: Address | None = None
    exit_address_v6: IPv6Address | None = None
    mtu_bytes: int | None = None
    """The MTU of its tunnel; None: the file does not give one."""

    @property
    def endpoint(self) -> Endpoint:
        """The server's first endpoint, with the name that the key's file has for it."""
        return Endpoint(self.server, self.port)

    @property
    def ways(self) -> tuple[Endpoint, ...]:
        """All endpoints of the server, `endpoint` first."""
        return self.endpoint, *self.others


def could_be_key(text: str) -> bool:
    """Whether TEXT may contain a key, in one piece or with blanks, colons or dashes in it."""
    packed = "".join(text.split())
    return bool(_IN_BASE64.search(packed) or _IN_HEX.search(re.sub("[:-]", "", packed)))


def sayable(name: str) -> str:
    """NAME, for example of a file, for a message; hidden if a key may have been pasted in its place."""
    *_, last = name.rpartition("/")
    return "(a name that could be a key)" if could_be_key(last) or _is_key(name) else name


def _is_key(text: str) -> bool:
    """Whether the whole TEXT is a key: a key with slashes in it looks like a path."""
    packed = "".join(text.split()).rstrip("=")
    return len(packed) in (43, 64) and could_be_key(packed)


def decode(text: str) -> bytes:
    """The 32 bytes of base64 TEXT; raises ValueError without repeating the text."""
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is no base64 key") from None
    if len(value) != KEY_BYTES:
        raise ValueError(f"has {len(value)} bytes instead of {KEY_BYTES}")
    return value
