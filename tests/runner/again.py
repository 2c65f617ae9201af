"""A second try, by itself: whether a test that failed beside others on a busy machine fails when nothing else runs.

It is for tiers, whose tests share two processors with one another. A test that failed twice has failed; one that passed
the second time is told with everything it said, as a fault that waits to be mended. There is no second try where one
failure says everything (a leak that was seen once is a leak), nor where many have failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tests.runner.jobs import Job, Running
from tests.runner.plan import tier_of
from tests.runner.progress import broken, failed

MOST = 5
ONCE = {"leak", "hostile", "fuzz"}
"""What these see once is true, however busy the machine is."""


def jobs_of(ended: Sequence[Running]) -> list[Job]:
    """One for each job with tests that may try again; none where the run has failed anyway."""
    names = [name for one in ended for name in failed(one)]
    if not 0 < len(names) <= MOST or any(map(broken, ended)) or ONCE.intersection(map(tier_of, names)):
        return []
    return [_again(one.job, failed(one)) for one in ended if failed(one)]


def _again(job: Job, names: Sequence[str]) -> Job:
    others = (word for word in job.argv if not (word.startswith("tests/") and ".py" in word))
    return replace(job, name=f"{job.name} again", argv=(*others, *names))


def passed(first: Sequence[Running], second: Sequence[Running]) -> set[tuple[str, str]]:
    """(Job, test) of what failed in FIRST and passed in SECOND."""
    good = {(one.job.name, test.name) for one in second for test in one.tests if test.outcome == "passed"}
    return {(one.job.name, name) for one in first for name in failed(one) if (f"{one.job.name} again", name) in good}
