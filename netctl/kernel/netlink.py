"""Raw netlink: frames, attributes, dumps and acknowledged requests (linux/netlink.h).

One read of the state of 200 workers is some 2,000 messages. Each takes 20 us here, and 1 ms with a library that makes
an object for every attribute. And a deletion has to repeat the kernel's own bytes.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import socket
import stat
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROUTE, SOCK_DIAG, NETFILTER = 0, 4, 12
"""NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_NETFILTER."""
ERROR, DONE = 2, 3
REQUEST, ACK, DUMP_INTERRUPTED, DUMP = 0x1, 0x4, 0x10, 0x300
NESTED = 0x8000
ANSWER_SECONDS = 2.0
"""The kernel answers within the call; it waits only for a lock that is held elsewhere."""
DUMP_TRIES = 5
_TYPE_MASK = 0x3FFF
_SO_PROTOCOL, _SO_RCVBUFFORCE, _SOL_NETLINK, _ADD_MEMBERSHIP = 38, 33, 270, 1
_HEARING_BYTES = 4 << 20
_HEADER = struct.Struct("=IHHII")
LONGEST_BYTES = 1 << 17
_sequence = itertools.count(1)


class Message(NamedTuple):
    kind: int
    flags: int
    sequence: int
    sender: int
    """Port of the socket that caused the message; 0: the kernel itself."""
    body: bytes


def messages(data: bytes) -> Iterator[Message]:
    """Every message of one datagram."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, sequence, sender = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size:
            return
        yield Message(kind, flags, sequence, sender, data[offset + _HEADER.size : offset + length])
        offset += (length + 3) & ~3


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, value) of each attribute in DATA."""
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            return
        yield kind & _TYPE_MASK, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded; KIND | NESTED for one that holds others."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def number(value: bytes | None) -> int:
    """A u32 in host byte order; 0 for None."""
    return int(struct.unpack_from("=I", value)[0]) if value else 0


def text(value: bytes | None) -> str:
    """A string that ends with NUL; "" for None."""
    return value.rstrip(b"\0").decode(errors="replace") if value else ""


class Socket:
    """One netlink socket, for one user at a time: each call reads the answer to its own request."""

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.settimeout(ANSWER_SECONDS)
        self._socket.bind((0, 0))

    def close(self) -> None:
        self._socket.close()

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """The bodies of all objects that KIND lists; raises OSError.

        If a change during the dump makes the list inconsistent, it is requested again.
        """
        for _ in range(DUMP_TRIES):
            found, whole = self._list(kind, body)
            if whole:
                return found
        raise OSError(errno.EINTR, "the list kept changing while it was read")

    def _list(self, kind: int, body: bytes) -> tuple[list[bytes], bool]:
        found: list[bytes] = []
        whole = True
        for answer in self._answers(self._send(kind, DUMP, body)):
            whole = whole and not answer.flags & DUMP_INTERRUPTED
            if answer.kind == DONE:
                break
            if answer.kind == ERROR:
                _raise(answer)
            found.append(answer.body)
        return found, whole

    def request(self, kind: int, body: bytes) -> None:
        """Send, and wait for the acknowledgement; raises OSError with the kernel's errno."""
        _raise(next(self._answers(self._send(kind, ACK, body))))

    def get(self, kind: int, body: bytes) -> bytes:
        """Ask for one object; raises OSError with the kernel's errno."""
        answer = next(self._answers(self._send(kind, 0, body)))
        if answer.kind == ERROR:
            _raise(answer)
        return answer.body

    def _send(self, kind: int, flags: int, body: bytes) -> int:
        sequence = next(_sequence)
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, REQUEST | flags, sequence, 0) + body)
        return sequence

    def _answers(self, sequence: int) -> Iterator[Message]:
        """Messages that answer request SEQUENCE; answers to an earlier request that timed out are skipped."""
        while True:
            for message in messages(self._socket.recv(LONGEST_BYTES)):
                if message.sequence == sequence:
                    yield message


def listen(protocol: int, groups: Iterable[int]) -> socket.socket:
    """A non-blocking socket that receives the notifications of GROUPS; needs no privilege."""
    listening = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol)
    try:
        # With CAP_NET_ADMIN a buffer above the administrator's limit (net.core.rmem_max); else the default.
        with contextlib.suppress(PermissionError):
            listening.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _HEARING_BYTES)
        listening.bind((0, 0))
        for group in groups:
            listening.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
    except BaseException:
        listening.close()
        raise
    return listening


def own_ports(protocol: int) -> frozenset[int]:
    """The ports of this process's netlink sockets of PROTOCOL, which notifications of its changes have as the sender.

    Includes sockets of libraries, which do not expose them.
    """
    return frozenset(port for file in Path("/proc/self/fd").iterdir() if (port := _port(int(file.name), protocol)))


def _port(descriptor: int, protocol: int) -> int:
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return 0
        with socket.socket(fileno=os.dup(descriptor)) as found:
            if found.family == socket.AF_NETLINK and found.getsockopt(socket.SOL_SOCKET, _SO_PROTOCOL) == protocol:
                return int(found.getsockname()[0])
    except OSError:
        pass  # closed meanwhile
    return 0


def _raise(answer: Message) -> None:
    (code,) = struct.unpack_from("=i", answer.body)
    if code:
        raise OSError(-code, os.strerror(-code))
