"""A lab with a fleet for `fleet verify`, and what it says."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Any

from fleet.model import Worker
from lab import run
from lab.net import Lab
from lab.topology import ECHO_NAME, STUN_PORT, WEB_ADDRESS

FIRST_UID = 1281
WORKERS = 2
DEADLINE_SECONDS = 300
SETTINGS: run.Changes = {"verify": {"resolver_echo": ECHO_NAME, "stun": f"{WEB_ADDRESS}:{STUN_PORT}"}}


@dataclass(frozen=True)
class Said:
    """What one `fleet verify` said."""

    code: int
    report: dict[str, Any]
    errors: str

    def but(self, verdict: str) -> dict[str, str]:
        """The properties that are not VERDICT, each with what was seen."""
        return {one["name"]: one["seen"] for one in self.report["properties"] if one["verdict"] != verdict}

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
        return Said(code=done.returncode, report=json.loads(done.stdout), errors=done.stderr)
