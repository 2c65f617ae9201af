"""Serves the page on this host's loopback. While its port is in use, the hub runs without it and tries again."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from hypercorn.asyncio import serve
from hypercorn.config import Config
from starlette.types import ASGIApp

from fleet import log
from fleet.db import Database
from fleet.machine.room import room
from fleet.model import Fleet, Paths
from fleet.sockets.deadline import set_within
from hub.doors import Doors
from hub.web.app import application
from hub.web.guard import HOSTS
from hub.web.metrics import Metrics
from hub.web.pictures import Shelf
from hub.web.states import States
from hub.web.view import Queue, View

AGAIN_SECONDS = 10.0
T = TypeVar("T")


async def run(fleet: Fleet, paths: Paths, queue: Queue, stopping: asyncio.Event) -> None:
    """Serve until STOPPING is set."""
    database, thread = Database(fleet.hub.address(paths)), ThreadPoolExecutor(1, "page")

    def read(work: Callable[[], T]) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(thread, work)

    try:
        view, metrics, least = View(database, read, queue), Metrics(), fleet.hub.keep.free_mebibytes
        queue.ends.append(metrics.ended)
        states = States(view, metrics, lambda: room((paths.state, paths.hub_database.parent), least))
        app = application(fleet, view, Shelf(paths, database), states, Doors(paths), stopping=stopping)
        await _serve(fleet.hub.web.port, app, stopping)
    finally:
        thread.shutdown()
        database.close()


async def _serve(port: int, app: ASGIApp, stopping: asyncio.Event) -> None:
    config, said = Config(), log.get("hub")
    config.errorlog = None
    config.graceful_timeout = 1
    while not stopping.is_set():
        try:
            config.bind = [f"fd://{_opened(port)}"]
        except OSError as error:
            said.error("web.not_open", port=port, error=error.strerror or str(error))
            await set_within(AGAIN_SECONDS, stopping)
            continue
        said.info("web.open", address=f"http://{HOSTS[0]}:{port}/")
        await serve(app, config, shutdown_trigger=stopping.wait)


def _opened(port: int) -> int:
    """The descriptor of a socket bound to PORT; hypercorn closes it."""
    made = socket.socket()
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((HOSTS[0], port))
        return made.detach()
    finally:
        made.close()
