"""What `fleet verify` sends to find a way past a tunnel: each probe as data, and the function that sends one.

Root chooses the probes. The worker under test sends some; an ordinary user sends the same kinds in the clear (the
control). Each packet is recognised by its own token, or by an address and port that no other probe has.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Annotated, Literal

from pydantic import AfterValidator

from fleet import visible
from fleet.sockets.wire import Message

Kind = Literal["tcp", "udp", "dns", "stun", "quic", "icmp"]
TOKEN_PATTERN = rb"fv[0-9a-f]{14}"
_SO_BINDTODEVICE = 25
"""include/uapi/asm-generic/socket.h; an ordinary user may set it on a socket that has no device (Linux 5.7)."""
_QUIC_LEAST_BYTES = 1200
"""RFC 9000, section 14.1."""
_STUN_COOKIE = 0x2112A442
_STUN_SOFTWARE = 0x8022


_MOST_SAID = 400
Said = Annotated[str, AfterValidator(lambda text: visible.line("; ".join(text.splitlines()))[:_MOST_SAID])]
"""Text from an untrusted source, cut to 400 characters on one line; it is shown on root's terminal."""


class Probe(Message):
    """One packet to send."""

    name: str
    """For people, the same for the control and the worker: `dns 53 to an unassigned address, bound to the uplink`."""
    kind: Kind
    target: str
    """A numeric address."""
    port: int = 0
    bound: str = ""
    """The interface that its socket is bound to; "": none."""
    token: str
    """16 characters (TOKEN_PATTERN)."""

    @property
    def mark(self) -> str:
        """How its packet is recognised: by the token; by target and port for tcp, as a SYN carries no token."""
        return f"{self.target} {self.port}" if self.kind == "tcp" else self.token


class Sent(Message):
    """The result of sending one probe."""

    mark: Said
    error: Said = ""
    """Why it could not be sent; "" when the kernel accepted it."""
    forbidden: bool = False
    """The machine lets no ordinary user send this kind."""


class Reach(Message):
    """An address that the worker must not reach."""

    name: str
    address: str
    port: int


class Reached(Message):
    """The result of one connection attempt."""

    name: Said
    connected: bool
    error: Said = ""


def send(probe: Probe) -> Sent:
    """Send PROBE without waiting for an answer; the kernel's error is part of the result."""
    try:
        with _socket(probe) as made:
            if probe.bound:
                made.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, probe.bound.encode())
            made.setblocking(False)
            status = made.connect_ex((probe.target, probe.port))
            if status not in (0, errno.EINPROGRESS):
                raise OSError(status, os.strerror(status))
            if probe.kind != "tcp":
                made.send(payload(probe))
    except OSError as error:
        # net.ipv4.ping_group_range decides who may open a ping socket.
        forbidden = probe.kind == "icmp" and error.errno in (errno.EACCES, errno.EPERM)
        return Sent(mark=probe.mark, error=error.strerror or str(error), forbidden=forbidden)
    return Sent(mark=probe.mark)


def reach(target: Reach, seconds: float = 2.0) -> Reached:
    """Try for SECONDS to connect to TARGET over TCP."""
    try:
        socket.create_connection((target.address, target.port), timeout=seconds).close()
    except OSError as error:
        return Reached(name=target.name, connected=False, error=error.strerror or str(error))
    return Reached(name=target.name, connected=True)


def payload(probe: Probe) -> bytes:
    """The payload of PROBE: a well-formed first message of its protocol, with the token in it."""
    token = probe.token.encode()
    if probe.kind == "dns":
        labels = b"".join(bytes([len(label)]) + label for label in (token, b"fleet-verify", b"test"))
        return struct.pack("!6H", 1, 0x0100, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, 1, 1)
    if probe.kind == "stun":
        attribute = struct.pack("!HH", _STUN_SOFTWARE, len(token)) + token
        return struct.pack("!HHI", 1, len(attribute), _STUN_COOKIE) + token[:12] + attribute
    if probe.kind == "quic":  # a reserved version (RFC 9000, section 15), which a server answers with its own versions
        return (struct.pack("!BIB", 0xC0, 0x1A2A3A4A, len(token)) + token).ljust(_QUIC_LEAST_BYTES, b"\0")
    if probe.kind == "icmp":
        return struct.pack("!BBHHH", 128 if ":" in probe.target else 8, 0, 0, 0, 1) + token
    return b"fleet-verify " + token


def _socket(probe: Probe) -> socket.socket:
    family = socket.AF_INET6 if ":" in probe.target else socket.AF_INET
    if probe.kind == "tcp":
        return socket.socket(family, socket.SOCK_STREAM)
    if probe.kind == "icmp":
        icmp = socket.IPPROTO_ICMPV6 if family == socket.AF_INET6 else socket.IPPROTO_ICMP
        return socket.socket(family, socket.SOCK_DGRAM, icmp)
    return socket.socket(family, socket.SOCK_DGRAM)


class Order(Message):
    """The order to the worker's half; one JSON line on its standard input."""

    sealed: tuple[Probe, ...]
    """Sent before it has a tunnel."""
    connected: tuple[Probe, ...]
    """Sent while it has one."""
    reaches: tuple[Reach, ...]
    lookups: dict[str, str]
    """By asker (`getaddrinfo`, `getent`, `chrome`): the name that it looks up, with a token in it."""
    echo: str
    """A name that resolves to the address of the resolver that asks; "": not looked up."""
    stun: str
    """NAME:PORT; "": no STUN server."""


class Page(Message):
    """What a page in the worker's browser could see and reach."""

    candidates: tuple[Said, ...]
    """Addresses of the WebRTC candidates that it got."""
    gathered: bool
    """The browser began to gather candidates and had time for it."""
    navigated: tuple[Said, ...]
    """Names of the reaches that a tab could load."""
    tried: int
    """How many ways of requesting them from a page were tried to their end."""
    sandboxed: bool
    """Whether `chrome://sandbox` says so."""
    sandbox: Said
    """The last words of that page."""


class Answer(Message):
    """What the worker's half saw; one JSON line on its standard output. None: a step that it did not reach."""

    sealed: tuple[Sent, ...] = ()
    connected: tuple[Sent, ...] = ()
    reaches: tuple[Reached, ...] = ()
    tunnel_error: Said = ""
    """Why there was no tunnel; "": there was one. Without one, nothing that needs it was tried."""
    exit_seen: Said | None = None
    exit_error: Said = ""
    carries_ipv6: bool = False
    exit_v6_seen: Said | None = None
    exit_v6_error: Said = ""
    echo: tuple[Said, ...] = ()
    """Addresses of the resolvers that asked for the echo name."""
    looked_up: tuple[Said, ...] = ()
    """The askers that did look up their names."""
    page: Page | None = None
    page_error: Said = ""
    browser: Said = ""


class ControlOrder(Message):
    """The order to the control."""

    probes: tuple[Probe, ...]
    reaches: tuple[Reach, ...] = ()
    lookups: tuple[str, ...] = ()
    echo: str = ""


class ControlAnswer(Message):
    """The results of the control."""

    sent: tuple[Sent, ...]
    reaches: tuple[Reached, ...] = ()
    echo: tuple[str, ...] = ()


def resolve(name: str) -> tuple[str, ...]:
    """The addresses of NAME by the system's resolver, each once; empty when it has none or no resolver answers."""
    try:
        return tuple(sorted({str(found[4][0]) for found in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}))
    except OSError:
        return ()
