"""A lab with a fleet for `fleet verify`, and what it says."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.model import Worker
from lab import run
from lab.net import Lab
from lab.topology import ECHO_NAME, STUN_PORT, WEB_ADDRESS
from lab.vpn import with_ipv6

FIRST_UID = 1281
WORKERS = 2
DEADLINE_SECONDS = 300
SETTINGS: run.Changes = {"verify": {"resolver_echo": ECHO_NAME, "stun": f"{WEB_ADDRESS}:{STUN_PORT}"}}


@dataclass(frozen=True)
class Said:
    """What one `fleet verify` said."""

    code: int
    report: dict[str, Any]
    text: str
    """All of it, as it was said."""

    def but(self, verdict: str) -> dict[str, str]:
        """The properties that are not VERDICT, each with what was seen."""
        return {one["name"]: one["seen"] for one in self.report["properties"] if one["verdict"] != verdict}

    def seen(self, name: str) -> str:
        """What was seen of the property NAME."""
        return next(str(one["seen"]) for one in self.report["properties"] if one["name"] == name)

    def are(self, verdict: str) -> set[str]:
        """The properties that are VERDICT."""
        return {one["name"] for one in self.report["properties"] if one["verdict"] == verdict}


@dataclass(frozen=True)
class Verified:
    """One LAB's host with accounts, keys and settings."""

    lab: Lab
    isolation: str

    @property
    def worker(self) -> Worker:
        return Worker(uid=FIRST_UID)

    def keys(self, *, ipv6: bool) -> None:
        """The pool holds the lab's keys and no others, with IPv6 addresses or without."""
        listed = json.loads(run.call(self.lab, "netctl", "keys", "list", "--json"))
        run.call(self.lab, "netctl", "keys", "remove", *(one["public_key"] for one in listed))
        with tempfile.TemporaryDirectory() as folder:
            files = [self._client(Path(folder), one, ipv6=ipv6) for one in sorted(self.lab.places.keys.glob("*.conf"))]
            run.call(self.lab, "netctl", "keys", "import", *map(str, files))

    def _client(self, folder: Path, given: Path, *, ipv6: bool) -> Path:
        """The client's file GIVEN by the lab, as a provider without IPv6 hands it out, or one with."""
        host, _, number = given.stem.rpartition("-")
        server = next(one for one in self.lab.topology.vpn if one.host == host)
        made = folder / given.name
        made.write_text(with_ipv6(given.read_text(), server, int(number)) if ipv6 else given.read_text())
        return made

    def private_keys(self) -> set[str]:
        """Every private key of the pool's."""
        texts = [path.read_text() for path in self.lab.places.keys.glob("*.conf")]
        return {found[1] for text in texts if (found := re.search(r"PrivateKey = (\S+)", text))}

    def configure(self, changes: run.Changes = run.NO_CHANGES) -> None:
        """The lab's fleet.toml for `fleet verify`, with CHANGES."""
        tables = run.settings(self.lab, WORKERS, first_uid=FIRST_UID, changes={"": {"isolation": self.isolation}})
        for table, keys in (*SETTINGS.items(), *changes.items()):
            tables.setdefault(table, {}).update(keys)
        run.paths(self.lab).config.write_text(run.toml(tables), encoding="utf-8")

    def fleet(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The operator's program in the host."""
        return self.lab.run("host", run.program("fleet", *words), timeout=DEADLINE_SECONDS, stdin=subprocess.DEVNULL)

    def verify(self, *words: str) -> Said:
        """`fleet verify` of the first worker."""
        done = self.fleet("verify", "--worker", self.worker.name, "--json", *words)
        assert done.stdout, done.stderr
        return Said(code=done.returncode, report=json.loads(done.stdout), text=done.stdout + done.stderr)
