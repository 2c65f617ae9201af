"""Where a lab keeps its files, and the record of what it is. Standard library, fleet.errors, fleet.machine.lockfile.

/var/lib/fleet-lab/NAME/
    lab.json         parameters, and the lab's own namespaces
    ready            exists once everything answers
    keys/*.conf      client configurations
    ca.pem           the authority of the shop's certificate
    log/             output of every server; queries and requests as they arrived
    at/HOST/         what is mounted over /etc and /run for programs inside HOST
    host/            FLEET_ROOT of the programs inside `host`
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fleet.errors import TryLater
from fleet.machine import lockfile

LABS = Path("/var/lib/fleet-lab")


class Record(NamedTuple):
    """The content of lab.json: a lab that exists, or the defaults."""

    instance: str = ""
    """Distinguishes this life of the lab from the next one of the same name."""
    servers: int = 0
    keys: int = 0
    """Of each server."""
    ipv6: bool = False
    """In tunnels."""
    namespaces: Sequence[str] = ()
    """Namespaces that it made or was about to make."""


class Places:
    """The files of one lab."""

    def __init__(self, name: str) -> None:
        self.root = LABS / name
        self.record, self.ready = self.root / "lab.json", self.root / "ready"
        self.keys, self.authority = self.root / "keys", self.root / "ca.pem"
        self.site = self.root / "site"
        """The shop's certificate and its key."""
        self.fleet_root = self.root / "host"
        self.spaces = self.fleet_root / "run/netns"
        """The names of the workers' network namespaces inside `host` (fleet.paths)."""
        self.access_log = self.root / "log/access.jsonl"
        """What the shop was asked: JSON lines of time, client address, path, protocol."""

    def log(self, program: str) -> Path:
        """The output of PROGRAM (`site`, `dns-isp`, `wireguard-vpn1` ...)."""
        return self.root / f"log/{program}.log"

    def queries(self, host: str) -> Path:
        """Queries of the resolver at HOST: at `isp` a worker's query is a leak; at `web` those of the echo names."""
        return self.root / f"log/queries-{host}.log"

    def at(self, host: str) -> Path:
        """The folder whose files programs inside HOST see instead of the machine's own."""
        return self.root / "at" / host

    def wireguard_socket(self, host: str, interface: str) -> Path:
        """wireguard-go's socket, seen from outside of HOST."""
        return self.at(host) / "wireguard" / f"{interface}.sock"

    def claim(self, servers: int, keys: int, ipv6: bool, namespaces: Sequence[str]) -> None:
        """Write the record before NAMESPACES are made, so that a crash leaves nothing unclaimed."""
        fresh = self.record.with_suffix(".new")
        fresh.write_text(json.dumps(Record(os.urandom(8).hex(), servers, keys, ipv6, namespaces)._asdict()))
        fresh.replace(self.record)

    def recorded(self) -> Record:
        """The content of lab.json."""
        try:
            return Record(**json.loads(self.record.read_text()))
        except (FileNotFoundError, ValueError):
            return Record()


@contextlib.contextmanager
def lock(name: str, what: str) -> Iterator[None]:
    """Hold the lock WHAT of the lab NAME; raises TryLater naming the holder. The lock ends with its holder.

    Held while a lab changes, not while it is up. The last holder removes the file.
    """
    path = LABS / f".{name}.{what}"

    def busy(holder: str) -> TryLater:
        message = f"the lab {name} is busy: process {holder} holds its {what} lock"
        return TryLater(message, hint="wait for it, or stop it first")

    with lockfile.held(_opened(path), busy):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # other labs are there
                LABS.rmdir()


def _opened(path: Path) -> int:
    """The lock file at PATH. Waits for the lock of a holder that has ended."""
    while True:
        LABS.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # another lab's end removed the empty folder
            descriptor = lockfile.opened(path)
            holder = "" if lockfile.take(descriptor) else lockfile.holder(descriptor)
            if holder and not Path("/proc", holder).exists():
                # It was killed while it started a child, which keeps the lock until its exec.
                lockfile.wait(descriptor)
            if os.fstat(descriptor).st_nlink:
                return descriptor
            os.close(descriptor)  # its last holder removed the file while we waited for it: take the new one
