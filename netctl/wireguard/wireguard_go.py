"""wireguard-go over its socket (the cross-platform userspace protocol, wireguard.com/xplatform).

wireguard-go runs under the supervisor, one process an interface; its socket folder is fixed and the
same for every network namespace, so interface names are unique on a machine.
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
from fleet.sockets.callers import peer_of
from fleet.sockets.deadline import readable
from netctl.kernel.setns import Spaces
from netctl.plan.key import Endpoint, Secret
from netctl.plan.things import Device, Peer
from netctl.wireguard.contract import CALL_SECONDS, Reading, moment

NO_KEY = "0" * 64


async def found(_: Spaces | None = None) -> UserspaceWireGuard:
    """wireguard-go; `fleet doctor` knows whether it is installed."""
    return UserspaceWireGuard()


class UserspaceWireGuard:
    """See netctl.wireguard.contract."""

    backend = USERSPACE

    def __init__(self, sockets: Path | None = USERSPACE.sockets) -> None:
        assert sockets is not None
        self._sockets = sockets

    async def read(self, interface: str, space: str = HOST) -> Reading | None:
        try:
            lines = await self._ask(interface, "get=1\n\n")
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        return _reading(interface, space, lines)

    async def write(self, device: Device) -> None:
        # The peers go first: with another key wireguard-go computes a shared secret for each that it has.
        lines = ["set=1", "replace_peers=true"]
        lines.append(f"private_key={device.private.reveal().hex() if device.private else NO_KEY}")
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
        """See WireGuard.restart. A process that is stopped still listens: the kernel knows whose the socket is."""
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
            # Until it has ended, its socket still takes requests, which get no answer.
            await readable(process.fileno(), CALL_SECONDS)
        return True

    async def _ask(self, interface: str, text: str) -> list[tuple[str, str]]:
        pairs = _pairs(await self._exchange(interface, text))
        code = int(dict(pairs).get("errno", "0"))
        if code:
            # Its errno is negative; our own request is not repeated: it holds the key.
            raise TunnelError(f"wireguard-go of {interface} refused: {os.strerror(abs(code))}")
        return pairs

    async def _exchange(self, interface: str, text: str) -> bytes:
        """The answer. By hand and not through streams: a handshake is looked for a few times, and with many workers
        at once the streams' 0.5 ms of processor time a look are what all of them wait for."""
        deadline = time.monotonic() + CALL_SECONDS
        answer = b""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.setblocking(False)
            try:
                connection.connect(str(self._sockets / f"{interface}.sock"))
                connection.send(text.encode())  # less than a socket's buffer always has room for
                await asyncio.sleep(0)  # with many at once it has answered by then
                while not answer.endswith(b"\n\n"):
                    answer += await _received(connection, deadline)
            except (asyncio.TimeoutError, BlockingIOError):
                # BlockingIOError: so many questions wait there already that no other is taken.
                raise TunnelError(f"wireguard-go of {interface} did not answer within {CALL_SECONDS:g} s") from None
            except (ConnectionResetError, BrokenPipeError):
                raise TunnelError(f"wireguard-go of {interface} hung up") from None
        return answer


async def _received(connection: socket.socket, deadline: float) -> bytes:
    """What comes next; raises asyncio.TimeoutError, ConnectionResetError."""
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
    # Above zero it also makes wireguard-go send one at once, which starts the handshake.
    yield f"persistent_keepalive_interval={peer.keepalive_seconds}"
    yield from _networks(peer)


def _name(peer: Peer) -> str:
    return f"public_key={base64.b64decode(peer.public_key).hex()}"


def _networks(peer: Peer) -> Iterable[str]:
    yield "replace_allowed_ips=true"
    yield from (f"allowed_ip={network}" for network in peer.allowed)


def _reading(interface: str, space: str, pairs: list[tuple[str, str]]) -> Reading:
    """PAIRS in wireguard-go's order: the device's, then each peer's after its public_key."""
    values = dict(pairs)
    if sum(name == "public_key" for name, _ in pairs) > 1:
        # Several peers are never netctl's: this Device equals none that is desired, so the plan replaces them.
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
