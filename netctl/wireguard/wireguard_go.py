"""wireguard-go over its socket (the cross-platform userspace protocol, wireguard.com/xplatform).

wireguard-go runs under the supervisor, one process for each interface. Its socket folder is fixed and the same for
every network namespace, so interface names are unique on a machine.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from fleet.backends import USERSPACE
from fleet.errors import TunnelError
from fleet.isolation import HOST
from fleet.machine.processes import Handle
from fleet.numbers import OUTER_MARK
from fleet.sockets.callers import peer_of
from fleet.sockets.deadline import readable
from netctl.kernel.setns import Spaces
from netctl.plan.key import Endpoint, Secret
from netctl.plan.things import Device, Peer
from netctl.wireguard.contract import CALL_SECONDS, Reading, moment

NO_KEY = "0" * 64
MOST_KEPT = 64
"""How many connections are kept: a rotation asks its device some seven times, and no more workers rotate at once."""


async def found(_: Spaces | None = None) -> UserspaceWireGuard:
    """wireguard-go; `fleet doctor` checks whether it is installed."""
    return UserspaceWireGuard()


class UserspaceWireGuard:
    """See netctl.wireguard.contract."""

    backend = USERSPACE

    def __init__(self, sockets: Path | None = USERSPACE.sockets) -> None:
        assert sockets is not None
        self._sockets = sockets
        self._kept: dict[str, socket.socket] = {}
        """Connections without a request under way, by interface; the last used one comes last."""

    async def read(self, interface: str, space: str = HOST) -> Reading | None:
        try:
            lines = await self._ask(interface, "get=1\n\n")
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        return _reading(interface, space, lines)

    async def write(self, device: Device) -> None:
        # Remove the peers first: when the key changes, wireguard-go computes a shared secret for each peer.
        lines = ["set=1", "replace_peers=true"]
        lines.append(f"private_key={device.private.reveal().hex() if device.private else NO_KEY}")
        lines.append(f"fwmark={OUTER_MARK}")  # by it the outer packets pass the tables with few lookups
        if device.peer is not None:
            lines += _peer_lines(device.peer)
        await self._set(device.interface, lines)

    async def open(self, device: Device) -> None:
        assert device.peer is not None
        await self._set(device.interface, ["set=1", _name(device.peer), "update_only=true", *_networks(device.peer)])

    async def _set(self, interface: str, lines: list[str]) -> None:
        try:
            await self._ask(interface, "\n".join(lines) + "\n\n")
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise TunnelError(
                f"wireguard-go of {interface} is not running", hint=f"supervisorctl status wg:{interface}"
            ) from error

    async def restart(self, interface: str) -> bool:
        """See WireGuard.restart. A stopped process still listens, and the kernel knows the socket's process."""
        with contextlib.ExitStack() as stack:
            asking = stack.enter_context(socket.socket(socket.AF_UNIX))
            asking.setblocking(False)
            try:
                asking.connect(str(self._sockets / f"{interface}.sock"))
                process = stack.enter_context(Handle(peer_of(asking).pid))
                process.kill()
            except (FileNotFoundError, ConnectionRefusedError, ProcessLookupError):
                return True
            except (BlockingIOError, PermissionError) as error:
                raise TunnelError(
                    f"wireguard-go of {interface} hangs and cannot be ended: {error.strerror}",
                    hint=f"supervisorctl restart wg:{interface}",
                ) from None
            # Until it has ended, its socket still accepts requests, which get no answer.
            await readable(process.fileno(), CALL_SECONDS)
        return True

    async def _ask(self, interface: str, text: str) -> list[tuple[str, str]]:
        pairs = _pairs(await self._exchange(interface, text))
        code = int(dict(pairs).get("errno", "0"))
        if code:
            # Its errno is negative. The error does not repeat the request, which has the key.
            raise TunnelError(f"wireguard-go of {interface} refused: {os.strerror(abs(code))}")
        return pairs

    async def _exchange(self, interface: str, text: str) -> bytes:
        """The answer to TEXT. Without asyncio streams: a handshake needs a few reads, and streams cost 0.5 ms of
        processor time for each, for which many workers at once would wait."""
        deadline = time.monotonic() + CALL_SECONDS
        kept = self._kept.pop(interface, None)
        connection = kept or self._connected(interface)
        try:
            answer = await _answered(connection, text, deadline)
        except BaseException as error:
            connection.close()  # an answer may still come through it
            if isinstance(error, ConnectionResetError | BrokenPipeError):
                if kept is not None:
                    return await self._exchange(interface, text)  # KEPT was to a program that has ended
                raise TunnelError(f"wireguard-go of {interface} hung up") from None
            if isinstance(error, asyncio.TimeoutError | BlockingIOError):
                raise _silent(interface) from None
            raise
        self._keep(interface, connection)
        return answer

    def _connected(self, interface: str) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.setblocking(False)
        try:
            connection.connect(str(self._sockets / f"{interface}.sock"))
        except OSError as error:
            connection.close()
            if isinstance(error, BlockingIOError):  # the socket's queue of connections is full
                raise _silent(interface) from None
            raise
        return connection

    def _keep(self, interface: str, connection: socket.socket) -> None:
        """Keep CONNECTION for the next request: a new one costs wireguard-go three times as much as a request."""
        if (other := self._kept.pop(interface, None)) is not None:
            other.close()
        self._kept[interface] = connection
        if len(self._kept) > MOST_KEPT:
            self._kept.pop(next(iter(self._kept))).close()


def _silent(interface: str) -> TunnelError:
    return TunnelError(f"wireguard-go of {interface} did not answer within {CALL_SECONDS:g} s")


async def _answered(connection: socket.socket, text: str, deadline: float) -> bytes:
    """The answer to TEXT; raises asyncio.TimeoutError, BlockingIOError, OSError if the program has ended."""
    connection.send(text.encode())  # always fits into a socket's buffer
    await asyncio.sleep(0)  # with many calls at once it has answered by then
    answer = b""
    while not answer.endswith(b"\n\n"):
        answer += await _received(connection, deadline)
    return answer


async def _received(connection: socket.socket, deadline: float) -> bytes:
    """The next bytes; raises asyncio.TimeoutError, ConnectionResetError."""
    while True:
        with contextlib.suppress(BlockingIOError):
            if chunk := connection.recv(1 << 16):
                return chunk
            raise ConnectionResetError
        if not await readable(connection.fileno(), deadline - time.monotonic()):
            raise asyncio.TimeoutError


def _pairs(answer: bytes) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (line.partition("=") for line in answer.decode().split("\n") if line)]


def _peer_lines(peer: Peer) -> Iterable[str]:
    yield _name(peer)
    if peer.preshared is not None:
        yield f"preshared_key={peer.preshared.reveal().hex()}"
    yield f"endpoint={peer.endpoint}"
    # Above zero it also makes wireguard-go send a keepalive at once, which starts the handshake.
    yield f"persistent_keepalive_interval={peer.keepalive_seconds}"
    yield from _networks(peer)


def _name(peer: Peer) -> str:
    return f"public_key={base64.b64decode(peer.public_key).hex()}"


def _networks(peer: Peer) -> Iterable[str]:
    yield "replace_allowed_ips=true"
    yield from (f"allowed_ip={network}" for network in peer.allowed)


def _reading(interface: str, space: str, pairs: list[tuple[str, str]]) -> Reading:
    """The reading in PAIRS, which are in wireguard-go's order: the device's, then each peer's after its public_key."""
    values = dict(pairs)
    if sum(name == "public_key" for name, _ in pairs) > 1:
        # netctl never sets several peers: make this Device unequal to any desired one, so that the plan replaces them.
        values["preshared_key"] = "f" * 64
    peer = None
    if "public_key" in values:
        preshared = values.get("preshared_key", NO_KEY)
        peer = Peer(
            public_key=base64.b64encode(bytes.fromhex(values["public_key"])).decode(),
            preshared=None if preshared == NO_KEY else Secret(bytes.fromhex(preshared)),
            keepalive_seconds=int(values.get("persistent_keepalive_interval", "0")),
            ipv6=("allowed_ip", "::/0") in pairs,
            open=("allowed_ip", "0.0.0.0/0") in pairs,
            endpoint=Endpoint.parse(values.get("endpoint", "0.0.0.0:0")),
        )
    private = values.get("private_key", NO_KEY)
    shaken = (int(values.get(f"last_handshake_time_{unit}", "0")) for unit in ("sec", "nsec"))
    return Reading(
        device=Device(
            interface=interface,
            private=None if private == NO_KEY else Secret(bytes.fromhex(private)),
            peer=peer,
            space=space,
        ),
        last_handshake=moment(*shaken),
        received_bytes=int(values.get("rx_bytes", "0")),
        sent_bytes=int(values.get("tx_bytes", "0")),
    )
