"""A site of one page: `python -m tests.programs.one_page CERTIFICATE KEY ADDRESS:PORT... [--quic ADDRESS:PORT]`.

Says `PROTOCOL ADDRESS` for every page that it serves, by HTTP/2 everywhere, by HTTP/3 there; `/ip` answers who asks.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config

HEAD = [(b"content-type", b"text/html; charset=utf-8"), (b"cache-control", b"no-store")]
PAGE = "<!doctype html><html lang=ko><link rel=icon href=data:,><title>가게</title><h1>무선 키보드 39,000원</h1>"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """The same page whatever else is asked for."""
    if scope["type"] != "http":
        return
    asker, _ = scope["client"]
    sys.stdout.write(f"{scope['http_version']} {asker}\n")
    sys.stdout.flush()
    await send({"type": "http.response.start", "status": 200, "headers": HEAD})
    await send({"type": "http.response.body", "body": (asker if scope["path"] == "/ip" else PAGE).encode()})


parser = argparse.ArgumentParser()
for name in ("certfile", "keyfile"):
    parser.add_argument(name)
parser.add_argument("bind", nargs="+")
parser.add_argument("--quic", dest="quic_bind", action="append", default=[])
asyncio.run(serve(application, Config.from_mapping(vars(parser.parse_args()), alpn_protocols=["h2", "http/1.1"])))
