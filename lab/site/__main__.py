"""Serve the shop of one lab and its echo servers: `launch.py lab.site LAB`, inside the lab's `web`."""

from __future__ import annotations

import asyncio
import signal
import sys

from hypercorn.asyncio import serve
from hypercorn.config import Config

from lab.places import Places
from lab.site import echo
from lab.site.app import application
from lab.topology import HOSTILE_PORTS, WEB_ADDRESS, WEB_ADDRESS_V6


def configuration(places: Places) -> Config:
    """HTTPS with HTTP/2 on 443, plain HTTP/1.1 on 80 and the hostile page's ports, all on IPv4 and IPv6."""
    config = Config()
    config.bind = [f"{WEB_ADDRESS}:443", f"[{WEB_ADDRESS_V6}]:443"]
    config.insecure_bind = [
        f"{at}:{port}" for at in (WEB_ADDRESS, f"[{WEB_ADDRESS_V6}]") for port in (80, *HOSTILE_PORTS)
    ]
    config.certfile = str(places.site / "cert.pem")
    config.keyfile = str(places.site / "key.pem")
    config.alpn_protocols = ["h2", "http/1.1"]
    config.keep_alive_timeout = 60
    config.backlog = 1024
    config.graceful_timeout = 1
    return config


async def _serve(places: Places) -> None:
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)

    async def ended() -> None:
        await ending.wait()

    with (
        places.access_log.open("a", encoding="utf-8") as access_log,
        places.queries("web").open("a", encoding="utf-8") as questions,
    ):
        await echo.start(questions)
        await serve(application(access_log), configuration(places), shutdown_trigger=ended)


if __name__ == "__main__":
    asyncio.run(_serve(Places(sys.argv[1])))
