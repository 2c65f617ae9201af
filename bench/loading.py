"""Real workers of a fleet in a lab, whose browsers only load pages."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from fleet.errors import FleetError
from fleet.model import Worker, WorkersSettings
from fleet.result import Result
from fleet.spool import read_spool
from fleet.supervise import last_lines, wait_until
from lab import run
from lab.net import Lab
from lab.topology import SITE_NAME

PAGES = 3
"""A browser's, one after the other, of 41 requests each."""
BEGIN_SECONDS = 180.0
END_SECONDS = 180.0


class Crowd:
    """WORKERS browsers under the fleet's supervisor in LAB's host, which is prepared for them."""

    def __init__(self, lab: Lab, workers: int, first_uid: int) -> None:
        self.lab, self.workers, self.first_uid = lab, workers, first_uid
        self.paths = run.paths(lab)
        run.prepare(lab, workers, first_uid=first_uid)
        self.members = WorkersSettings(count=workers, first_uid=first_uid).members

    def configure(self, *, isolation: str, deny_netlink: bool) -> None:
        """fleet.toml for the next run."""
        changes: run.Tables = {"": {"isolation": isolation}, "workers": {"deny_netlink": deny_netlink}}
        tables = run.settings(self.lab, self.workers, first_uid=self.first_uid, changes=changes)
        tables["task"] = {"run": "visit"}
        urls = [f"https://{SITE_NAME}/"] * PAGES
        tables["task.options"] = {"urls": [*urls], "wait_for": ".hint", "seen_address": "#seen-address"}
        self.paths.config.write_text(run.toml(tables), encoding="utf-8")

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[str]]:
        """`fleet run` with more loops than needed; everything has ended afterwards."""
        # An order without an end would let a worker that only fails rest longer and longer.
        words = ("--workers", str(self.workers), "--loops", "100000")
        command = ["setpriv", "--pdeathsig", "TERM", *run.program("fleet", "run", *words)]
        said = self.lab.places.log("fleet-run")
        with said.open("w") as log:
            quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": log}
            child = self.lab.popen("host", command, **quiet, start_new_session=True)
        try:
            yield child
        finally:
            child.terminate()
            child.wait(END_SECONDS)

    def wait_until_all_load(self, child: subprocess.Popen[str], since: datetime) -> None:
        """Until every worker's browser is there and loads its first page; raises FleetError."""
        self._wait_for_all(
            child, BEGIN_SECONDS, "load pages", lambda: sum(self._loads(one, since) for one in self.members)
        )

    def _loads(self, worker: Worker, since: datetime) -> bool:
        path = self.paths.log(worker.name)
        texts = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        begun = (json.loads(text) for text in texts if text.endswith("}") and '"stage.begun"' in text)
        return any(
            line["stage"] == "load" and datetime.fromisoformat(line["timestamp"].replace("Z", "+00:00")) > since
            for line in begun
        )

    def wait_until_all_handed_in(self, child: subprocess.Popen[str], since: datetime, ended: datetime) -> None:
        """Until every worker has handed in a loop of this run that ended after ENDED; raises FleetError."""

        def count() -> int:
            return len({result.worker for result in self.results(since) if result.finished > ended})

        self._wait_for_all(child, END_SECONDS, "handed in a loop", count)

    def results(self, since: datetime) -> list[Result]:
        """The loops that were begun and handed in since then."""
        found = [result for worker in self.members for result in read_spool(self.paths.spool(worker))]
        return [result for result in found if result.started >= since]

    def _wait_for_all(self, child: subprocess.Popen[str], seconds: float, what: str, count: Callable[[], int]) -> None:
        def ready() -> bool:
            if child.poll() is not None:
                words = " ".join(last_lines(self.lab.places.log("fleet-run")))
                raise FleetError(f"fleet run ended with code {child.returncode}: {words}")
            return count() == self.workers

        wait_until(ready, seconds, lambda: f"{count()} of {self.workers} workers {what}")
