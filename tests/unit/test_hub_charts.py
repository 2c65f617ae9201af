"""What is drawn of numbers that a page has chosen."""

from __future__ import annotations

import math

from fleet.outcomes import ENDINGS
from fleet.terminal.shapes import SHAPES
from hub.web.charts import chart, numbers
from hub.web.ticks import drawn


def test_no_number_of_a_page_spoils_its_chart() -> None:
    """Each point has a place in the box, however far the values are apart; what has no end is left out."""
    said = numbers(
        {"a": 1e299, "b": -1e299, "c": 10**400, "d": 1e308, "e": True, "f": math.nan, "price": {"amount": 3}}
    )
    assert said == {"a": 1e299, "b": -1e299, "price": 3.0}
    made = chart("x", {"kr": list(enumerate(said.values())), "jp": [(5.0, 3.0)]})
    assert made and all(map(math.isfinite, (place for line in made.lines for dot in line.dots for place in dot)))


def test_every_end_has_an_outline_of_its_own() -> None:
    """Also without a colour they differ; a tick stands where its run does in the row."""
    alone = [drawn([outcome])[outcome] for outcome in ENDINGS]
    assert len({*alone}) == len(ENDINGS) == len(SHAPES)
    row = drawn(["good", "failed", "good"])
    assert row["good"].startswith("M0 ") and "M24 " in row["good"] and row["failed"].startswith("M12 ")
