"""The worker's lease of a tunnel: one connection to netctl, kept for as long as the worker lives.

The lease belongs to the connection. When netctl ends while the tunnel is in use, the tunnel itself goes on
in the kernel; a watching thread reconnects and asks for the same lease, which the browser does not notice.
Only if netctl refuses, the loop gets TunnelLost.
"""

from __future__ import annotations

import contextvars
import os
import select
import threading
from contextlib import AbstractContextManager
from pathlib import Path

import tenacity

from fleet import log
from fleet.errors import FleetError, HandshakeTimeout, NoWay, TryLater, TunnelLost, Unavailable
from fleet.sockets import netctl_api
from fleet.sockets.client import Client
from fleet.sockets.wire import Address, Done

MARGIN_SECONDS = 5
"""Added to netctl's own deadline: without an answer by then netctl counts as gone."""
AWAY_SECONDS = 30
"""How long a request waits for a netctl that does not run (supervisord restarts it within seconds)."""
_LET_GO_SECONDS = 1
_log = log.get("worker")


class Tunnel(AbstractContextManager["Tunnel"]):
    """Gives the loop one tunnel after another; its exit releases the lease."""

    def __init__(self, socket: Path, *, deadline_seconds: float, server: str | None = None) -> None:
        """SERVER: use only keys of that server."""
        self._usual, self._server = server, server
        self._client = Client(socket, timeout_seconds=deadline_seconds + MARGIN_SECONDS)
        self._lock = threading.RLock()
        self._current: netctl_api.Tunnel | None = None
        self._lost: FleetError | None = None
        self._wake_reader, self._wake_writer = os.pipe()
        self._closing = False
        # A new thread has no context variables, so its log lines would lack the worker's name.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._watch,), name="tunnel", daemon=True)
        self._thread.start()

    def fresh(self, server: str = "") -> tuple[netctl_api.Tunnel, bool]:
        """A tunnel with a new key, and whether it was a rotation (False: a new connection).

        With SERVER (or a region) only keys of that one are used; a change of it needs a new connection. Waits while
        netctl is away. Raises netctl's errors.
        """
        with self._lock:
            wanted = server or self._usual
            rotates = self._current is not None and self._lost is None and self._client.fileno() >= 0
            rotates, self._server = rotates and wanted == self._server, wanted
            try:
                tunnel = self._rotate() if rotates else self._connect()
            except (HandshakeTimeout, TryLater):
                raise
            except FleetError:
                self._hang_up()
                raise
            self._current, self._lost = tunnel, None
            self._wake()
            return tunnel, rotates

    def _rotate(self) -> netctl_api.Tunnel:
        try:
            return self._client.ask(netctl_api.Rotate(), netctl_api.Tunnel)
        except (Unavailable, TunnelLost) as error:
            if isinstance(error, Unavailable) and self._client.fileno() >= 0:
                raise  # netctl itself has answered: it is busy
            _log.info("tunnel.reconnecting", reason=str(error))
            return self._connect()

    def _connect(self) -> netctl_api.Tunnel:
        self._hang_up()
        return self._ask_whoever_comes(netctl_api.Connect(server=self._server))

    def _ask_whoever_comes(self, request: netctl_api.Connect) -> netctl_api.Tunnel:
        """Connect and ask; retry while netctl is away.

        A netctl that is killed closes its connections before its listening socket: a worker that reconnects
        in that moment is accepted and disconnected at once.
        """
        return tenacity.Retrying(
            stop=tenacity.stop_after_delay(AWAY_SECONDS),
            wait=tenacity.wait_random_exponential(multiplier=0.02, max=0.5),
            retry=tenacity.retry_if_exception(self._nobody_there),
            reraise=True,
        )(self._open_and_ask, request)

    def _open_and_ask(self, request: netctl_api.Connect) -> netctl_api.Tunnel:
        self._client.open()
        return self._client.ask(request, netctl_api.Tunnel)

    def _nobody_there(self, error: BaseException) -> bool:
        # Unavailable on an open connection is netctl's own answer.
        return isinstance(error, Unavailable) and self._client.fileno() < 0

    def _hang_up(self) -> None:
        self._client.close()
        self._current = None
        # The watcher's poll keeps the socket open until it returns: netctl would not notice the end before.
        self._wake()

    def proved(self, address: Address) -> None:
        """Report the address that the world has seen to netctl; raises WrongExit when that cannot be the exit."""
        claim = netctl_api.Proved(address=address)
        with self._lock:
            try:
                self._client.ask(claim, Done)
            except Unavailable as error:
                if not self._nobody_there(error):
                    raise
                self._take_back()
                self.check()
                self._client.ask(claim, Done)

    def stuck(self) -> None:
        """Report to netctl that nothing answers through the tunnel, so that it checks the path.

        Raises NoWay when this host has no route to the server; other errors are ignored.
        """
        with self._lock:
            try:
                self._client.ask(netctl_api.Stuck(), Done)
            except NoWay:
                raise
            except FleetError:
                pass

    @property
    def current(self) -> netctl_api.Tunnel | None:
        """The tunnel in use; None before the first one, and after a loss."""
        return None if self._lost else self._current

    def check(self) -> None:
        """Raise TunnelLost when the lease has ended while it was in use."""
        if self._lost is not None:
            raise TunnelLost("the tunnel ended while it was in use") from self._lost

    def _watch(self) -> None:
        """Wait until netctl closes the connection; replies are read by the thread that asked."""
        while not self._closing:
            poll = select.poll()
            poll.register(self._wake_reader, select.POLLIN)
            if (descriptor := self._client.fileno()) >= 0:
                poll.register(descriptor, select.POLLRDHUP)
            seen = dict(poll.poll())
            if self._wake_reader in seen:
                os.read(self._wake_reader, 512)
            elif descriptor in seen:
                self._resume(descriptor)

    def _resume(self, descriptor: int) -> None:
        with self._lock:
            if self._closing or self._client.fileno() != descriptor or not _is_hung_up(descriptor):
                return  # a request has noticed it first and has handled it
            self._client.close()
            self._take_back()

    def _take_back(self) -> None:
        """netctl has ended: ask the next one for the same lease; if it refuses, or none comes, the tunnel is lost."""
        if (held := self._current) is None:
            return
        _log.warning("netctl.gone", lease=held.lease)
        try:
            self._current = self._ask_whoever_comes(netctl_api.Connect(resume=held.lease, server=self._server))
            _log.info("tunnel.resumed", lease=held.lease)
        except FleetError as error:
            self._lost = error
            self._client.close()
            _log.warning("tunnel.lost", lease=held.lease, reason=str(error))
        self._wake()

    def _wake(self) -> None:
        os.write(self._wake_writer, b"w")

    def close(self) -> None:
        """Release the lease; netctl seals the slot."""
        self._closing = True
        self._wake()
        # The watcher may hold the lock while it waits for netctl; an ending worker does not wait for that.
        if self._lock.acquire(timeout=_LET_GO_SECONDS):
            try:
                self._hang_up()
            finally:
                self._lock.release()
        self._thread.join(timeout=_LET_GO_SECONDS)

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_hung_up(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLRDHUP)
    return any(events & ~select.POLLNVAL for _, events in poll.poll(0))
