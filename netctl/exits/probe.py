"""netctl's own check through a worker's tunnel, or without one; the process netctl.exits.ask sends the requests.

The sockets are made here. Each has netctl's mark (rules.py accepts it through an open gate), is bound to the tunnel's
device and has the worker's placeholder as its source. So its packets, like the worker's, leave through that tunnel or
not at all. With isolation `netns` the socket is in the worker's namespace, but the process that uses it in the host's,
where names are resolved. The worker cannot answer in place of the service: the connection is TLS, and incoming packets
go only to its socket. When the exit changes, the socket is closed with the others of its source address.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from fleet.model import EgressSettings, Worker
from fleet.numbers import PROBE_MARK
from fleet.programs import Installation
from fleet.sockets.deadline import within
from fleet.sockets.wire import Address
from netctl.kernel.setns import Spaces

ANSWER_BYTES = 8192
START_SECONDS = 10.0
"""How long the process may take besides its requests, on a busy machine."""
_SO_MARK, _SO_BINDTODEVICE = 36, 25
_HEADER_BYTES = 40
"""The headers of IPv4 and TCP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The addresses that services saw; if there are none, TROUBLE says why."""

    addresses: tuple[Address, ...] = ()
    trouble: str = ""


class Probe:
    """Asks the services of SETTINGS."""

    def __init__(self, settings: EgressSettings, installation: Installation, spaces: Spaces) -> None:
        self._settings = settings
        self._installation = installation
        self._spaces = spaces

    async def through(self, worker: Worker, interface: str, space: str, most_bytes: int | None = None) -> Seen:
        """The address that services see of WORKER, over IPv4, with packets of at most MOST_BYTES in both directions."""
        count = len(self._settings.urls)
        sockets: list[socket.socket] = []
        try:
            self._spaces.inside(
                space, lambda: sockets.extend(_made(worker, interface, most_bytes) for _ in range(count))
            )
            return await self._ask(sockets)
        except OSError as error:
            return Seen(trouble=f"no socket through {interface}: {error.strerror}")
        finally:
            for one in sockets:
                one.close()

    async def in_the_clear(self) -> Seen:
        """The addresses that services see of this host without a tunnel, over IPv4 and IPv6."""
        return await self._ask(())

    async def _ask(self, sockets: Sequence[socket.socket]) -> Seen:
        numbers = [one.fileno() for one in sockets]
        child = await asyncio.create_subprocess_exec(
            *self._installation.module("netctl.exits.ask", *map(str, numbers)),
            env=self._installation.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            pass_fds=numbers,
        )
        assert child.stdout is not None
        seconds = START_SECONDS + 2 * self._settings.timeout_seconds
        try:
            return _read(await within(seconds, child.stdout.read(ANSWER_BYTES)))
        except asyncio.TimeoutError:
            return Seen(trouble=f"no answer within {seconds:g} s")
        finally:
            if child.returncode is None:
                child.kill()
            await child.wait()


def _made(worker: Worker, interface: str, most_bytes: int | None) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, _SO_MARK, PROBE_MARK)
    made.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, interface.encode())
    if most_bytes is not None:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, most_bytes - _HEADER_BYTES)
    made.bind((str(worker.placeholder), 0))
    return made


def _read(answer: bytes) -> Seen:
    """The process's answer, which is not trusted: an attacker may have taken it over."""
    try:
        told = json.loads(answer)
        return Seen(addresses=tuple(ip_address(str(one)) for one in told["seen"]), trouble=str(told["trouble"])[:500])
    except (ValueError, KeyError, TypeError, RecursionError):
        return Seen(trouble="the process netctl.exits.ask gave no answer")
