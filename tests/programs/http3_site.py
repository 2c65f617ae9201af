"""A site in the lab's `web` that speaks HTTP/3: `python -m tests.programs.http3_site CERTIFICATE KEY PORT [PORT]`.

Says `PROTOCOL ADDRESS` for every page that it serves; on the second port without QUIC.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config

ADDRESS = "203.0.113.80"
HEAD = [(b"content-type", b"text/html"), (b"cache-control", b"no-store")]
PAGE = b"<!doctype html><link rel=icon href=data:,><title>page</title>"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """The same page whatever is asked for."""
    if scope["type"] != "http":
        return
    sys.stdout.write(f"{scope['http_version']} {scope['client'][0]}\n")
    sys.stdout.flush()
    await send({"type": "http.response.start", "status": 200, "headers": HEAD})
    await send({"type": "http.response.body", "body": PAGE})


def configuration(certificate: str, key: str, quic: str, *without: str) -> Config:
    """HTTP/2 over TCP on every port, HTTP/3 on the first alone."""
    made = Config()
    made.certfile, made.keyfile = certificate, key
    made.bind = [f"{ADDRESS}:{port}" for port in (quic, *without)]
    made.quic_bind = [f"{ADDRESS}:{quic}"]
    made.alpn_protocols = ["h2", "http/1.1"]
    return made


asyncio.run(serve(application, configuration(*sys.argv[1:])))
