"""Right pages, broken: whatever is done to a page, no loop is good with a wrong field."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.cases import SITE
from tests.inside import Ear
from tests.programs import mutants
from tests.system.launching import Puppet

FIELDS = {"name": ".name", "price": {"select": ".price", "kind": "price"}}
STILL_RIGHT = {"late", "skeleton", "overridden", "clock"}
"""Ways that only a careless reader stumbles over: the page says what it said."""


def watched(browser: Puppet, query: str) -> tuple[str, tuple[str, int] | None]:
    """The outcome of the page, and the fields of a good one."""
    options = {"pages": [f"{SITE}/mutant?{query}"], "wait_seconds": 3, "fields": FIELDS}
    result: dict[str, Any] = browser("perform", "watch", options)
    if result["outcome"] != "good":
        return result["outcome"], None
    fields = result["answer"]["fields"]
    return "good", (fields["name"], fields["price"]["amount"])


@pytest.fixture
def numbers(request: pytest.FixtureRequest) -> range:
    """Of the pages: all with --mutations=30, else every tenth."""
    return range(0, mutants.RIGHT, mutants.RIGHT // int(request.config.getoption("--mutations")))


def test_the_control(browser: Puppet, site: Ear, numbers: range) -> None:
    """Unbroken, every page is good, and its fields are right."""
    for number in numbers:
        assert watched(browser, f"right-{number}") == ("good", mutants.truth(number)), number


@pytest.mark.parametrize("way", mutants.WAYS)
def test_no_wrong_field_is_good(browser: Puppet, site: Ear, numbers: range, way: str) -> None:
    """A broken page is good with the right fields or not good; one that replaced it is told whole."""
    for number in numbers:
        outcome, found = watched(browser, f"{way}-{number}")
        if way in STILL_RIGHT:
            assert (outcome, found) == ("good", mutants.truth(number)), number
        elif way == "replaced":
            assert found in (None, mutants.OTHER), number
        else:
            assert outcome != "good", (number, found)
