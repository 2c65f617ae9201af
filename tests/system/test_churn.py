"""Addresses of the host come and go while browsers load pages: `bin/bench churn`, but shorter and with one browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.churn import CASES, Case, measure
from bench.loading import PAGES, Crowd
from lab.net import Lab

UID = 1291
SECONDS = 6.0


@pytest.fixture(scope="module")
def crowd(lab: Lab) -> Iterator[Crowd]:
    """A worker's account and the keys in the lab's host."""
    yield Crowd(lab, 1, UID)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_addresses_of_the_host_come_and_go(crowd: Crowd, case: Case) -> None:
    """Nothing is lost if Chrome may not use netlink or has its own namespace; if it sees the changes, pages break."""
    outcome = measure(crowd, case, SECONDS)
    print(outcome)
    assert outcome.pages >= PAGES
    if case.loses:
        assert outcome.network_changed > 0
    else:
        assert (outcome.network_changed, outcome.other_losses, outcome.failed_loops) == (0, 0, 0)
    assert outcome.ok
