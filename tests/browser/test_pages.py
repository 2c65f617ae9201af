"""Every odd page comes to what a careful person would say of it, whichever driver starts the browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from tests.browser.cases import CASES, SITE, Case
from tests.browser.conftest import LIMITS
from tests.inside import Ear
from tests.system.launching import Puppet, Stage

PATIENCE = 0.4
"""The site's late pages are as late as this lets them be."""
DRIVERS = ("undetected", "selenium")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every case by one of the drivers, in turn; by both where that is asked for, or where the driver has a part."""
    if "case" in metafunc.fixturenames:
        all_of_it = metafunc.config.getoption("--both-drivers")
        pairs = [
            pytest.param(driver, case, id=f"{case.name}-{driver}")
            for turn, driver in enumerate(DRIVERS)  # one after the other: each browser is started once
            for number, case in enumerate(CASES)
            if all_of_it or case.both or number % 2 == turn
        ]
        metafunc.parametrize(("driver", "case"), pairs)


@pytest.fixture(scope="module")
def puppets(stage: Stage) -> Iterator[Callable[[str], Puppet]]:
    """Gives the browser that a driver has started; one at a time."""
    # A parametrized fixture would be made again for each case: pytest tells parameters apart by their place.
    made: dict[str, Puppet] = {}

    def puppet(driver: str) -> Puppet:
        if driver not in made:
            end()
            made[driver] = Puppet(stage, driver, settings={**LIMITS, "patience": PATIENCE})
        return made[driver]

    def end() -> None:
        while made:
            made.popitem()[1].end()

    yield puppet
    end()


@pytest.fixture
def puppet(puppets: Callable[[str], Puppet], driver: str) -> Puppet:
    """A browser that DRIVER has started."""
    return puppets(driver)


def test_page(puppet: Puppet, site: Ear, case: Case) -> None:
    """The outcome, the typed answer, the reason and the notes are those of the row, and the site is not asked again."""
    site.rest()
    result = puppet("perform", case.run, case.options)
    assert result["outcome"] == case.outcome, result
    assert result["ok"] == (case.outcome in ("good", "empty"))
    assert re.search(case.reason, result["reason"]), result["reason"]
    assert bool(case.reason) == bool(result["reason"]) or case.outcome != "good"
    assert not case.notes or any(re.search(case.notes, one) for one in result["notes"]), result["notes"]
    assert holds(result["answer"], case.answer), result["answer"]
    assert case.outcome != "good" or result["screenshot"]
    if case.status is not None and case.outcome != "failed":
        assert result["status"] == case.status
    path = f"{case.options.get('urls', case.options.get('pages', [SITE]))[0]}".removeprefix(SITE)
    assert sum(line.partition("?")[0] == path for line in site.rest()) <= case.most_requests
    if case.restart:
        puppet("restart")


def holds(answer: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether ANSWER has what is WANTED, in tables of tables too."""
    return all(
        holds(answer.get(key) or {}, value) if isinstance(value, dict) else answer.get(key, ...) == value
        for key, value in wanted.items()
    )


@pytest.mark.parametrize("driver", DRIVERS)
def test_nothing_is_left_of_a_refused_download(puppet: Puppet) -> None:
    """Neither downloads nor what Chrome keeps beside its profile lie in the worker's home."""
    puppet("perform", "visit", {"urls": [f"{SITE}/attachment"]})
    assert puppet("listing", str(puppet("home"))) in ([], ["spool"])


@pytest.mark.parametrize("driver", DRIVERS[:1])
def test_a_retry_after_is_kept_in_both_forms(puppet: Puppet, site: Ear) -> None:
    """Seconds and a date are understood; what is no such thing is not."""
    for words, seconds in (("7", 7), ("99999999", 3600), ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("soon", None)):
        result = puppet("perform", "visit", {"urls": [f"{SITE}/429?{words.replace(' ', '%20')}"]})
        assert (result["outcome"], result["told_seconds"]) == ("limited", seconds)


@pytest.mark.parametrize("driver", DRIVERS[:1])
def test_no_page_makes_an_answer_without_end(puppet: Puppet, site: Ear) -> None:
    """What leaves the page is bounded in number and in length; the page has more (control)."""
    puppet("open", f"{SITE}/huge")
    texts = puppet("texts", ".item")
    assert len(texts) <= 1000 and max(map(len, texts)) <= 10_000 and sum(map(len, texts)) <= 2_000_000
    assert puppet("_script", "return [u.children.length, u.textContent.length]") == [1200, 3_000_000]
