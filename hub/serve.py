"""The life of `hub serve`: it enlists its host, learns what its workers have, and hands out jobs and takes results
until it is told to stop.

Nothing polls: it checks the queue when it rings (a job was added, a run has ended, a worker waits), when the next
site wakes, and with each beat.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from fleet import given_up, log
from fleet.db import Database
from fleet.errors import ConfigurationError, DatabaseFailed, HostFenced
from fleet.model import Fleet, Paths
from fleet.outside.calls import Web
from fleet.sockets.deadline import set_within
from fleet.sockets.rpc import Server, asked_to_end
from hub import access
from hub.alerts.comparing import Comparing
from hub.alerts.recording import CARRIER, LOOKER, remind
from hub.alerts.recording import recorder as alerting
from hub.alerts.telling import Teller
from hub.commands.place import host_name
from hub.declared import UNKNOWN, Declared
from hub.delivery.outbox import Outbox, recorder
from hub.delivery.pictures import Pictures
from hub.delivery.sending import Carry, Sender
from hub.delivery.targets import carriers_of
from hub.ends import Ends
from hub.exits import Exits
from hub.hosting import Hosting
from hub.keeping import Keeping, Space
from hub.queue.notices import Notices
from hub.queue.store import Store
from hub.queue.upgrade import check
from hub.service import HubService
from hub.source.answering import Answering
from hub.source.asking import Asking
from hub.source.journal import SOURCE, Journal
from hub.traces import Traces
from hub.web.view import Queue

PATIENCE_SECONDS = 10.0
AGAIN_SECONDS = 1.0
"""Pause after an error of the database."""
LOOK_AGAIN_SECONDS = 2.0
"""Pause while the disk is full."""
T = TypeVar("T")


async def serve(fleet: Fleet, paths: Paths, declared: Declared) -> None:
    """Serve until SIGTERM or SIGINT. Raises ConfigurationError, DatabaseFailed."""
    hub = Hub(fleet, paths, declared)
    try:
        await hub.run(asked_to_end())
    finally:
        hub.close()


class Hub:
    """One life of a host's hub."""

    def __init__(self, fleet: Fleet, paths: Paths, declared: Declared = UNKNOWN) -> None:
        self._fleet, self._paths, self._declared = fleet, paths, declared
        self._log = log.get("hub")
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()
        self.database = Database(fleet.hub.address(paths))
        name = host_name(paths)
        self._store = Store(self.database, self._ring, record=alerting(fleet.hub.alerts, name, recorder(name)))
        # One thread: a SQLite file has one writer, and ends of runs keep their order.
        self._thread = ThreadPoolExecutor(1, "database")
        self._space = Space((paths.state, paths.hub_database.parent), fleet.hub.keep.free_mebibytes)
        pictures = Pictures(paths)
        carriers: dict[str, Carry] = carriers_of(fleet, pictures)
        carriers[CARRIER] = Teller(fleet.hub.alerts, fleet.hub.alert_targets).carry
        carriers[LOOKER] = Comparing(fleet.hub.alerts, name, pictures, self.database, self._do).carry
        self._asking: Asking | None = None
        if (source := fleet.hub.source) is not None:
            web, journal = Web("hub.source", source), Journal(self.database, self._store, name)
            self._asking = Asking(fleet, web, journal, self._do, self._space.is_full, declared=declared)
            carriers[SOURCE] = Answering(source, web, pictures, journal, self._do).carry
        self._traces: Traces | None = None
        if fleet.hub.traces is not None:
            self._traces = Traces(fleet.hub.traces, name)
        self._sender = Sender(Outbox(self.database, name), carriers, self._do)
        written = Ends(self._store, self._do, self._ended_some, self.database, name)
        self.service = HubService(paths, fleet.members, written, look=self._rung.set, heard=self._heard)
        if self._traces is not None:
            self.service.ends.append(self._traces.ended)
        self._hosting = Hosting(name, self._store, self._do, self.service, settings=fleet.hub.jobs)
        self._exits = Exits(fleet, paths)
        self._keeping = Keeping(self.database, name, fleet.hub.keep, self._do, self.service.forget)

    def close(self) -> None:
        """Close the database; send the last traces."""
        self._thread.shutdown()
        self.database.close()
        if self._traces is not None:
            self._traces.close()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until STOP is set."""
        await self._do(lambda: check(self.database))
        await self._hosting.begin()
        server = access.server(self._fleet, self.service)
        await self._open(server)
        notices = Notices(self.database, self._ring)
        lives = [self._hand_out(), self._beat(), self._sender.run(), self._keeping.run()]
        lives += [self._asking.run()] if self._asking else []
        if self._fleet.hub.web.port:
            from hub.web import serving  # a web server of 17 MB, which a hub without a page does not need

            seats, ends, away = self.service.seats, self.service.ends, partial(given_up.read, self._paths.given_up)
            queue = Queue(self._store, self._do, seats, self._space.is_full, away, ends, self._declared)
            lives.append(serving.run(self._fleet, self._paths, queue, stop))
        tasks = [asyncio.ensure_future(each) for each in lives]
        self._log.info("hub.ready", socket=str(self._paths.hub_socket), pid=os.getpid(), host=self._hosting.host.name)
        ended = asyncio.ensure_future(stop.wait())
        await asyncio.wait([*tasks, ended], return_when=asyncio.FIRST_COMPLETED)
        self.service.stopping = True
        await server.close()
        notices.close()
        for task in (*tasks, ended):
            if task.done():
                task.result()  # raises a bug of the hub: supervisord restarts it
            task.cancel()
        await self._hosting.retire()
        self._paths.hub_socket.unlink(missing_ok=True)
        self._log.info("hub.stopped")

    async def _open(self, server: Server) -> None:
        """Open the socket; a hub whose supervisord was just killed may still be about to close it."""
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return await server.start(self._paths.hub_socket)
            except ConfigurationError:
                if time.monotonic() > until:
                    raise
            await asyncio.sleep(0.2)

    async def _do(self, work: Callable[[], T]) -> T:
        return await self._loop.run_in_executor(self._thread, work)

    def _ring(self) -> None:
        """Wake the hub to look at the queue; any thread may call it."""
        self._loop.call_soon_threadsafe(self._rung.set)

    def _heard(self) -> None:
        """Called when another program has changed the tables."""
        self._rung.set()
        self._ended_some()

    # --- the queue

    async def _hand_out(self) -> None:
        """Claim jobs for waiting workers whenever there may be some."""
        seconds: float | None = None
        while True:
            await set_within(seconds, self._rung)
            self._rung.clear()
            seconds = None
            if not (idle := self.service.idle()):
                continue
            if self._space.is_full():
                self.service.hand_out((), idle)
                seconds = LOOK_AGAIN_SECONDS
                continue
            try:
                claims = await self._do(partial(self._store.claim, self._hosting.host, idle, await self._exits.known()))
                seconds = claims.next_seconds
                await self._hosting.give_back(self.service.hand_out(claims.jobs, idle))
            except HostFenced:
                await self._hosting.again()
                seconds = 0.0
            except DatabaseFailed as error:
                self._log.error("database.failed", error=error.message)
                self.service.hand_out((), idle)
                seconds = AGAIN_SECONDS

    async def _beat(self) -> None:
        """Report that this host lives, and recover jobs of dead hosts."""
        while True:
            await self._hosting.rest()
            try:
                await self._hosting.beat()
                if await self._do(lambda: remind(self.database, self._fleet.hub.alerts, self._hosting.host.name)):
                    self._ended_some()
                await self._hosting.look_after()
            except HostFenced:
                await self._hosting.again()
            except DatabaseFailed as error:
                self._log.error("database.failed", error=error.message)
            self._rung.set()

    def _ended_some(self) -> None:
        """Called after runs ended: there may be something to deliver, and room for more work from a source."""
        self._sender.rung.set()
        if self._asking:
            self._asking.rung.set()
