"""A limit for log lines that any user can cause."""

from __future__ import annotations

from hub.web.seldom import SECONDS, Seldom


def test_one_line_stands_for_many() -> None:
    """The first at once; those that follow wait for the next line, which says how many they are."""
    now = 0.0
    one = Seldom(lambda: now)
    assert [one.due() for _ in range(5)] == [1, 0, 0, 0, 0]
    now = SECONDS
    assert [one.due(), one.due()] == [5, 0]
