"""What a run says while it goes on."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.runner.jobs import Running

LINE_SECONDS = 30.0
"""From one line to the next where the line cannot be written over."""


def say(text: str) -> None:
    """A line of the runner's own; on a terminal in place of the progress."""
    print(f"{clear()}test: {text}", file=sys.stderr, flush=True)


def clear() -> str:
    """What removes the progress from a terminal."""
    return "\r\033[K" if sys.stderr.isatty() else ""


@dataclass
class Progress:
    """Where all jobs stand, on one line; a failure is told as soon as it is there."""

    began: float = field(default_factory=time.monotonic)
    told: float = 0.0

    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self.began

    def look(self, running: Sequence[Running]) -> None:
        """Called about every second."""
        for one in running:
            for test in one.news():
                if test.outcome == "failed":
                    say(f"FAILED {test.name} ({one.job.name})")
            if one.code is not None:
                self._tell_end(one)
        now = time.monotonic()
        line = f"{self.seconds():.0f} s: " + " | ".join(_standing(one) for one in running if one.code is None)
        if sys.stderr.isatty():
            print(f"{clear()}{line[:150]}", end="", file=sys.stderr, flush=True)
        elif now - self.told >= LINE_SECONDS:
            self.told = now
            say(line)

    def _tell_end(self, one: Running) -> None:
        verdict = "FAILED" if broken(one) or failed(one) else "ok"
        tests = f", {len(one.tests)} tests" if one.tests else ""
        say(f"{one.job.name}: {verdict} ({one.wall_seconds:.0f} s, {one.processor_seconds:.0f} s of processor{tests})")


def _standing(one: Running) -> str:
    if not one.job.tells:
        return one.job.name
    bad = f", {len(failed(one))} FAILED" if failed(one) else ""
    return f"{one.job.name}: {len(one.tests)} done{bad}, {one.current[-60:]}"


def failed(one: Running) -> list[str]:
    """The tests of a job that have failed."""
    return [test.name for test in one.tests if test.outcome == "failed"]


def broken(one: Running) -> str:
    """Why the job itself has failed; empty where it did its work, with or without tests that failed.

    pytest ends with 0, with 1 where a test has failed, and with 5 where no test was selected.
    """
    if one.overdue:
        return f"not done after {one.job.deadline_seconds:.0f} s; it was at {one.current or 'its start'}"
    if one.code == 0 or (one.job.tells and (one.code == 5 or (one.code == 1 and failed(one)))):
        return ""
    return f"ended with {one.code}" + (f", at {one.current}" if one.current else "")
