"""Jobs: programs that run beside one another, one a core, followed by what they tell; none outlives the runner."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LOOK_SECONDS = 1.0
GRACE_SECONDS = 60.0
"""From a request to stop to the end of everything: fixtures take their labs down meanwhile."""


@dataclass(frozen=True)
class Job:
    """A program to run."""

    name: str
    argv: tuple[str, ...]
    expected_seconds: float
    tells: bool = False
    """It is pytest, and is given --events."""
    deadline_seconds: float = 900.0
    early: bool = False
    """Its end is part of the early verdict."""
    after: frozenset[str] = frozenset()
    """The names of jobs that make what it needs."""


@dataclass(frozen=True)
class Test:
    """What became of one test, or of a file that could not be collected."""

    name: str
    outcome: str
    seconds: float
    text: str = ""


@dataclass
class Running:
    """A job that runs, or has ended."""

    job: Job
    process: subprocess.Popen[bytes]
    output: Path
    """Empty where it was shown."""
    events: Path
    begun: float = field(default_factory=time.monotonic)
    tests: list[Test] = field(default_factory=list)
    processor_seconds_of: dict[str, float] = field(default_factory=dict)
    """By file."""
    without_root: int = 0
    """Tests left out."""
    current: str = ""
    code: int | None = None
    wall_seconds: float = 0.0
    processor_seconds: float = 0.0
    stopped_at: float | None = None
    overdue: bool = False
    _read: int = 0

    def news(self) -> Iterator[Test]:
        """Read what it has told since the last look; the tests that have ended meanwhile."""
        if not self.events.exists():
            return
        with self.events.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            event = json.loads(line)
            self.current = event.get("begun", self.current)
            self.without_root += event.get("without", 0)
            if "left" in event:
                used = self.processor_seconds_of
                used[event["left"]] = used.get(event["left"], 0.0) + event["processor_seconds"]
            if "ended" in event:
                test = Test(event["ended"], event["outcome"], event["seconds"], event["text"])
                self.tests.append(test)
                yield test

    def stop(self) -> None:
        """Ask it to end, as Ctrl-C does; the second time, GRACE_SECONDS later, end all of it."""
        now = time.monotonic()
        if self.stopped_at is None:
            self.stopped_at = now
            os.killpg(self.process.pid, signal.SIGINT)
        elif now - self.stopped_at > GRACE_SECONDS:
            os.killpg(self.process.pid, signal.SIGKILL)

    def reap(self) -> None:
        """Take its exit code and what it has used."""
        _, status, usage = os.wait4(self.process.pid, 0)
        self.code = self.process.returncode = os.waitstatus_to_exitcode(status)
        self.wall_seconds = time.monotonic() - self.begun
        self.processor_seconds = usage.ru_utime + usage.ru_stime


def start(job: Job, folder: Path, shown: bool) -> Running:
    """Start JOB; its files are in FOLDER, and its output too unless it is SHOWN."""
    name = job.name.replace(" ", "-")
    events, output = folder / f"{name}.events", folder / f"{name}.log"
    argv = [*job.argv, *(["--events", str(events)] if job.tells else [])]
    with output.open("wb") as to:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=None if shown else to,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Running(job=job, process=process, output=output, events=events)


def run(
    jobs: Sequence[Job], at_once: int, folder: Path, shown: bool, look: Callable[[Sequence[Running]], None]
) -> Iterator[Running]:
    """Run JOBS, AT_ONCE at most at a time, early ones before the others, the longest first; each is given at its end.

    LOOK is called about every second with what runs. Their files are in FOLDER. Ended early, by an exception such as
    Ctrl-C's, all that runs is stopped first.
    """
    waiting = sorted(jobs, key=lambda job: (not job.early, -job.expected_seconds))
    running: list[Running] = []
    try:
        while waiting or running:
            while len(running) < at_once and (job := _next(waiting, running)):
                waiting.remove(job)
                running.append(start(job, folder, shown))
            _wait(running)
            look(running)
            for one in [one for one in running if one.code is not None]:
                running.remove(one)
                yield one
    finally:
        while running := [one for one in running if one.code is None]:
            for one in running:
                one.stop()
            _wait(running)


def _next(waiting: Sequence[Job], running: Sequence[Running]) -> Job | None:
    """The first that needs nothing more from a job that has not ended."""
    unmade = {job.name for job in waiting} | {one.job.name for one in running}
    return next((job for job in waiting if not job.after & unmade), None)


def _wait(running: Sequence[Running]) -> None:
    """Until one of them ends, LOOK_SECONDS at most; those that have ended are reaped, what is overdue is stopped."""
    pidfds = {os.pidfd_open(one.process.pid): one for one in running}
    poll = select.poll()
    for pidfd in pidfds:
        poll.register(pidfd, select.POLLIN)
    done = [pidfd for pidfd, _ in poll.poll(LOOK_SECONDS * 1000)]
    for pidfd, one in pidfds.items():
        os.close(pidfd)
        if pidfd in done:
            one.reap()
        elif time.monotonic() - one.begun > one.job.deadline_seconds:
            one.overdue = True
            one.stop()
