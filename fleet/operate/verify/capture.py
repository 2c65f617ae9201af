"""Which of our probes leave the host: root inspects every packet on every interface but loopback and our tunnels.

Kernel facts: packet(7) for the sockets; a packet that nftables drops in `output` never reaches them. With SOCK_DGRAM
a packet begins with its network header, on every kind of link.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import struct
import threading
from collections import Counter
from collections.abc import Collection, Iterable

from fleet.errors import NotAllowed
from fleet.probes import TOKEN_PATTERN

_ALL = 0x0003
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_SO_RCVBUFFORCE = 33
_BUFFER_BYTES = 16 << 20
_TCP = 6
_TOKEN = re.compile(TOKEN_PATTERN)


class Capture:
    """A context manager that captures on the interfaces ONLY; if empty, on all but loopback and the tunnels OURS."""

    def __init__(self, only: Collection[str] = (), ours: Collection[str] = ()) -> None:
        self._only, self._ours = frozenset(only), frozenset(ours) | {"lo"}
        self._found: dict[str, Counter[str]] = {}
        self.packets = 0
        """Inspected packets: sent by this host, on captured interfaces."""
        self.lost = 0
        """Packets not inspected because the kernel's buffer was full; known after the end of the block."""
        self._changed = threading.Condition()
        self._wake_reader, self._wake_writer = os.pipe()
        self._thread = threading.Thread(target=self._read, name="capture", daemon=True)

    def __enter__(self) -> Capture:
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL))
        except PermissionError as error:
            raise NotAllowed(
                "no capture without CAP_NET_RAW", hint="run fleet verify as root, in a container with that capability"
            ) from error
        self._socket.setblocking(False)
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self._wake_writer, b"w")
        self._thread.join()
        self.lost += struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))[1]
        for descriptor in (self._wake_reader, self._wake_writer):
            os.close(descriptor)
        self._socket.close()

    def found(self, mark: str) -> tuple[str, ...]:
        """The interfaces by which packets with MARK have left, each with the number of packets: `2 by eth0`."""
        with self._changed:
            return tuple(f"{count} by {name}" for name, count in sorted(self._found.get(mark, Counter()).items()))

    def wait_for(self, marks: Iterable[str], seconds: float) -> bool:
        """Whether packets with all MARKS were seen within SECONDS. Every packet sent before them was inspected then."""
        wanted = set(marks)
        with self._changed:
            return self._changed.wait_for(lambda: wanted <= self._found.keys(), seconds)

    def _read(self) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._wake_reader, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            self._drain()
            if self._wake_reader in ready:
                return

    def _drain(self) -> None:
        while True:
            try:
                packet, address = self._socket.recvfrom(65_535)
            except (BlockingIOError, OSError):  # the kernel reports an interface that goes down once, as ENETDOWN
                return
            name, kind = address[0], address[2]
            if kind == socket.PACKET_OUTGOING and self._counts(name):
                with self._changed:
                    self.packets += 1
                    for mark in marks_of(packet):
                        self._found.setdefault(mark, Counter())[name] += 1
                    self._changed.notify_all()

    def _counts(self, interface: str) -> bool:
        return interface in self._only if self._only else interface not in self._ours


def marks_of(packet: bytes) -> set[str]:
    """The marks (fleet.probes.Probe.mark) found in PACKET, which begins with its IP header; empty for other packets.

    Every TCP packet yields its target and port, so the result may hold marks that are no probe's.
    """
    # Resolvers may change the case of a name's letters (draft-vixie-dnsext-dns0x20).
    found = {token.decode() for token in _TOKEN.findall(packet.lower())}
    head = _head(packet)
    if head is not None:
        protocol, target, start = head
        if protocol == _TCP and len(packet) >= start + 4:
            found.add(f"{target} {int.from_bytes(packet[start + 2 : start + 4], 'big')}")
    return found


def _head(packet: bytes) -> tuple[int, str, int] | None:
    """The protocol, target address and payload offset of PACKET; our own IPv6 SYNs have no extension headers."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        return packet[9], socket.inet_ntop(socket.AF_INET, packet[16:20]), (packet[0] & 15) * 4
    if version == 6 and len(packet) >= 40:
        return packet[6], socket.inet_ntop(socket.AF_INET6, packet[24:40]), 40
    return None
