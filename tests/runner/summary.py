"""What a run says at its end."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.runner import again
from tests.runner.jobs import Running
from tests.runner.plan import tier_of
from tests.runner.progress import broken, failed

LEAST_SECONDS = 1.0
"""A file that took less than this has no row."""
SLOWEST = 15
LAST_LINES = 60
"""Of the output of a job that broke."""


def tier(one: Running, name: str) -> str:
    """The tier of the test NAME of that job."""
    return "3.10" if one.job.name.startswith("3.10") else tier_of(name)


def file(one: Running, name: str) -> str:
    """The file of the test NAME of that job."""
    return f"{'3.10: ' if one.job.name.startswith('3.10') else ''}{name.partition('::')[0]}"


@dataclass
class Summary:
    """All jobs of a run, and of all rounds where it is repeated."""

    notes: list[str]
    rounds: int = 0
    ended: list[Running] = field(default_factory=list)
    again: list[Running] = field(default_factory=list)
    """The second try of what failed, see tests/runner/again.py."""

    def counts(self) -> Counter[str]:
        """Tests by outcome; a step that is no test, and a job that broke, counts as one."""
        found = Counter(test.outcome for one in self.ended for test in one.tests)
        if second := len(again.passed(self.ended, self.again)):
            found.update(passed=second, failed=-second)
        found.update("failed" if broken(one) else "passed" for one in self.ended if broken(one) or not one.job.tells)
        return found

    def verdict(self) -> str:
        """`ok`, or how many have failed so far."""
        counts = self.counts()
        return "nothing was run" if not counts else f"{counts['failed']} FAILED" if counts["failed"] else "ok"

    def durations(self) -> dict[str, float]:
        """Wall seconds of each file and step in one round."""
        walls, _, _ = self._measured(file)
        return {name: seconds / self.rounds for name, seconds in walls.items() if not name.startswith("3.10")}

    def lines(self) -> Iterator[str]:
        """All of it; the last line is `N passed, N failed, N skipped`."""
        yield from self._table("tier", tier)
        yield from self._table("file", file)
        tests = sorted((test.seconds, f"{test.name} ({one.job.name})") for one in self.ended for test in one.tests)
        slowest = {name: seconds for seconds, name in tests[-SLOWEST * self.rounds :] if seconds >= LEAST_SECONDS}
        yield f"{'wall s':>8}  the slowest tests"
        yield from (f"{seconds:8.1f}  {name}" for name, seconds in list(reversed(slowest.items()))[:SLOWEST])
        for one in self.ended:
            yield from _failures(one)
        for one in self.again:
            yield from _failures(one)
        for job, name in sorted(again.passed(self.ended, self.again)):
            yield f"FAILED BESIDE OTHERS, passed by itself: {name} ({job})"
        yield from self._repeated()
        if left_out := sum(one.without_root for one in self.ended):
            yield f"NOT CHECKED: {left_out} tests that need root"
        yield from self.notes
        counts = self.counts()
        yield ", ".join(f"{counts[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped"))

    def _measured(
        self, key: Callable[[Running, str], str]
    ) -> tuple[dict[str, float], dict[str, float], dict[str, int]]:
        """By key: wall seconds, processor seconds, number of tests."""
        walls, processors, numbers = defaultdict[str, float](float), defaultdict[str, float](float), Counter[str]()
        for one in self.ended:
            if not one.job.tells:
                walls[one.job.name] += one.wall_seconds
                processors[one.job.name] += one.processor_seconds
            for test in one.tests:
                walls[key(one, test.name)] += test.seconds
                numbers[key(one, test.name)] += 1
            for name, seconds in one.processor_seconds_of.items():
                processors[key(one, name)] += seconds
        return walls, processors, numbers

    def _table(self, title: str, key: Callable[[Running, str], str]) -> Iterator[str]:
        walls, processors, numbers = self._measured(key)
        yield f"{'wall s':>8}  {'processor s':>11}  {'tests':>5}  {title}"
        for name, wall in sorted(walls.items(), key=lambda item: -item[1]):
            if wall >= LEAST_SECONDS:
                yield f"{wall:8.1f}  {processors[name]:11.1f}  {numbers[name]:5}  {name}"

    def _repeated(self) -> Iterator[str]:
        """In how many rounds a test has failed, where there was more than one."""
        found = Counter(name for one in self.ended for name in [*failed(one), *([one.job.name] if broken(one) else [])])
        if self.rounds > 1:
            yield f"{self.rounds} rounds; {len(found) or 'no'} tests failed"
            yield from (f"{number:4} of {self.rounds}  {name}" for name, number in found.most_common())


def _failures(one: Running) -> Iterator[str]:
    """Everything that is known about what failed in a job."""
    for test in one.tests:
        if test.outcome == "failed":
            yield f"==== FAILED {test.name} ({one.job.name}, {test.seconds:.1f} s)\n{test.text}\n"
    if broken(one):
        output = one.output.read_text(errors="replace").splitlines()
        yield "\n".join([f"==== FAILED {one.job.name}: {broken(one)}", *output[-LAST_LINES:], ""])
