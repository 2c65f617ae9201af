"""A private S3 service: SeaweedFS from its wheel, on loopback, with one bucket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import obstore
from obstore.store import S3Store

from tests.waiting import until

BUCKET = "runs"
KEYS = {"access_key_id": "fleet-tests", "secret_access_key": "a-secret-of-the-tests"}
WEED = Path(sys.executable).parent / "weed"


@dataclass(frozen=True)
class Service:
    """The service, and an S3 client other than the one under test."""

    url: str
    store: S3Store

    def files(self) -> dict[str, bytes]:
        """The content of every object, by key."""
        found = [one["path"] for page in obstore.list(self.store) for one in page]
        return {key: obstore.get(self.store, key).bytes().to_bytes() for key in found}


def _ports(count: int) -> list[int]:
    """COUNT free ports. Each is below 55,000, because SeaweedFS also listens 10,000 above it (gRPC)."""
    found = list[int]()
    while len(found) < count:
        with socket.create_server(("127.0.0.1", 0)) as one:
            port = one.getsockname()[1]
        if port < 55_000 and port not in found:
            found.append(port)
    return found


@contextmanager
def running(folder: Path) -> Iterator[Service]:
    """A service that answers."""
    names = ("s3.port", "master.port", "volume.port", "filer.port", "admin.port")
    ports = dict(zip(names, _ports(len(names)), strict=True))
    words = [f"-{name}={port}" for name, port in ports.items()]
    words += [f"-dir={folder}", f"-bucket={BUCKET}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    words += ["-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0"]
    secrets = {f"AWS_{name.upper()}": value for name, value in KEYS.items()}
    url = f"http://127.0.0.1:{ports['s3.port']}"
    settings: dict[str, Any] = {**KEYS, "region": "us-east-1", "virtual_hosted_style_request": False}
    store = S3Store(BUCKET, endpoint=url, client_options={"allow_http": True}, **settings)
    log = folder.parent / "weed.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig=KILL", str(WEED), f"-logdir={folder.parent}", "mini", *words],
            env={**os.environ, **secrets},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )

    def answers() -> bool:
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            obstore.put(store, "begin", b"")
        except obstore.exceptions.BaseError:
            return False
        obstore.delete(store, "begin")
        return True

    try:
        until("the S3 service takes a file", answers, 60, lambda: log.read_text()[-2000:])
        yield Service(url, store)
    finally:
        process.kill()
        process.wait()
