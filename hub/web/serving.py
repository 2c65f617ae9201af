"""The page's server on this host's loopback. Where its port is taken the hub goes on without it, and tries again."""

from __future__ import annotations

import asyncio

from hypercorn.asyncio import serve
from hypercorn.config import Config

from fleet import log
from fleet.model import Fleet
from hub.web.app import application
from hub.web.guard import HOSTS
from hub.web.pictures import Shelf
from hub.web.view import View

AGAIN_SECONDS = 10.0


async def run(fleet: Fleet, view: View, shelf: Shelf, stopping: asyncio.Event) -> None:
    """Serve until STOPPING is set."""
    config, port = Config(), fleet.hub.web.port
    config.bind = [f"{HOSTS[0]}:{port}"]
    config.errorlog = None
    config.graceful_timeout = 1
    app, said = application(fleet, view, shelf, stopping), log.get("hub")

    async def ended() -> None:
        await stopping.wait()

    while not stopping.is_set():
        try:
            said.info("web.opening", address=f"http://{HOSTS[0]}:{port}/")
            await serve(app, config, shutdown_trigger=ended)
        except OSError as error:
            said.error("web.not_open", port=port, error=error.strerror or str(error))
            await asyncio.wait({asyncio.ensure_future(ended())}, timeout=AGAIN_SECONDS)
