"""A fleet that only does jobs, and whose page can stop and start workers."""

from __future__ import annotations

import json
from typing import Any

from fleet.supervise import Supervisor
from tests.fleets import Host
from tests.postgresql import Server
from tests.waiting import until

PORT, TOKEN = 8470, "t" * 20


class Jobs(Host):
    """A fleet that only does jobs."""

    before = 0
    """Runs that have ended before the storm."""
    server: Server | None = None
    """Its database, where that is a program."""

    def says(self, *words: str, given: str | None = None) -> str:
        """The output of one of the operator's commands, which must exit with 0."""
        settings: dict[str, Any] = {} if given is None else {"input": given, "stdin": None}
        done = self.operate(*words, **settings)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def add(self, *lines: dict[str, Any]) -> list[int]:
        """Add jobs; returns their numbers."""
        text = "\n".join(map(json.dumps, lines))
        return [one["job"] for one in json.loads(self.says("job", "add", "--file", "-", "--json", given=text))]

    def runs(self) -> list[dict[str, Any]]:
        """Every run, the oldest first."""
        return [json.loads(line) for line in self.says("result", "export").splitlines()]

    def page(self) -> None:
        """Wait until the page answers, because the hub has just started."""
        asked = ["curl", "-sS", "--output", "/dev/null", f"http://127.0.0.1:{PORT}/healthz"]
        until("the page", lambda: self.host(asked).returncode == 0, 60)

    def act(self, worker: str, what: str) -> tuple[int, str]:
        """Do WHAT with WORKER on the page; returns the answer's status and text."""
        form = ["--data", f"what={what}", "--data", f"token={TOKEN}", "--write-out", "\n%{http_code}"]
        address = f"http://127.0.0.1:{PORT}/workers/{worker}?lang=en"
        words, _, code = self.host(["curl", "-sS", *form, address], check=True).stdout.rpartition("\n")
        return int(code), words

    def state(self, worker: str) -> str:
        """WORKER's state as supervisord names it."""
        states = Supervisor(self.installation).states()
        return next(one.state for one in states if one.name == f"worker:{worker}")

    def wait_for(self, jobs: list[int], seconds: float = 90) -> dict[int, list[dict[str, Any]]]:
        """The runs of each of JOBS, once none of these is in the queue."""
        left, seen = {*jobs}, -1

        def all_left() -> bool:
            nonlocal left, seen
            if (size := self.paths.log("hub").stat().st_size) == seen:
                return False  # to ask costs more than to look whether something has happened
            seen = size
            found = json.loads(self.says("job", "list", "--limit", "1000", "--json"))
            left = {one["id"] for one in found if one["state"] != "aside"} & {*jobs}
            return not left

        until("the jobs are done", all_left, seconds, lambda: (left, self.runs()))
        runs = self.runs()
        return {job: [run for run in runs if run["job"] == job] for job in jobs}
