"""What may go into the queue: one value that the database refuses would block all that are written with it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from hub.queue import rests
from hub.queue.repeat import Cron, Interval
from hub.queue.values import LONGEST_ARGUMENTS, Finished, Job, Pace, moment, plain

GOOD = {"site": "shop.example", "task": "visit"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"site": ""},
        {"site": "a\0b"},
        {"site": "x" * 301},
        {"task": "two\nlines"},
        {"key": ""},
        {"key": "\ud800"},
        {"exit": "\0"},
        {"attempts": 0},
        {"targets": ("",)},
        {"attempts": 101},
        {"not_before": datetime(2026, 1, 1)},
        {"not_before": datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-12)))},
        {"repeat": Interval(1e12)},
        {"arguments": {"price": float("nan")}},
        {"arguments": {"what": object()}},
        {"arguments": {"page": "x" * LONGEST_ARGUMENTS}},
    ],
)
def test_a_job_that_cannot_be_kept_is_refused(wrong: dict[str, Any]) -> None:
    """Names of printable characters, a time with a zone, arguments that are JSON and not without end."""
    with pytest.raises(ValueError, match=r"\w"):
        Job(**{**GOOD, **wrong})


@pytest.mark.parametrize("seconds", [253_402_300_800.0, 1e15, 1e300])
def test_a_time_beyond_the_calendar_can_be_shown(seconds: float) -> None:
    """A row of an earlier release may have one: no list of all jobs fails for it."""
    assert moment(seconds).year == 9999


def test_what_people_write_is_taken() -> None:
    """A year that stands for never, any script, and text with what JSON has to escape."""
    Job(site="shop.example", task="visit", not_before=datetime(2999, 1, 1, tzinfo=timezone.utc))
    Job(site="상점.example", task="visit", key="키 1", arguments={"검색": "\0\ud800\"'"}, exit="서울")


@pytest.mark.parametrize(
    "wrong",
    [
        {"job": 0},
        {"job": 2**63},
        {"fence": -1},
        {"exit": "a\0"},
        {"wait_seconds": float("inf")},
        {"wait_seconds": float("nan")},
        {"answer": {"price": float("inf")}},
        {"targets": ("a\0",)},
    ],
)
def test_an_end_that_cannot_be_kept_is_refused(wrong: dict[str, Any]) -> None:
    """A worker may say anything; nothing of it reaches a statement that others share."""
    with pytest.raises(ValueError, match=r"\w"):
        Finished(**{"job": 1, "fence": 1, "outcome": "good", **wrong})


def test_an_error_is_plain_text_of_a_bounded_length() -> None:
    """This holds for any input."""
    assert plain("a\0b\ud800") == "a\ufffdb?"
    assert len(plain("x" * 10**6)) == 20_000


@pytest.mark.parametrize("wrong", [{"interval_seconds": -1}, {"interval_seconds": float("nan")}, {"most": 0}])
def test_a_pace_is_one(wrong: dict[str, Any]) -> None:
    """No interval below nothing, and at least one run."""
    with pytest.raises(ValueError, match="is not in"):
        Pace(**wrong)


@pytest.mark.parametrize("seconds", [0, -5, 0.5, float("inf"), float("nan")])
def test_an_interval_is_at_least_a_second(seconds: float) -> None:
    """Anything less is no repetition but a load."""
    with pytest.raises(ValueError, match="not an interval"):
        Interval(seconds)


@pytest.mark.parametrize("words", ["", "* * * *", "0 0 * * * *", "61 * * * *", "0 0 30 2 *", "@daily", "a b c d e"])
def test_cron_words_that_never_come_are_refused(words: str) -> None:
    """Five words of crontab(5), and a day that there is."""
    with pytest.raises(ValueError, match=r"\w"):
        Cron(words)


@pytest.mark.parametrize("zone", ["", "Seoul", "../etc/passwd", "Asia/Seoul\0", "/etc/localtime"])
def test_a_zone_that_is_none_is_refused(zone: str) -> None:
    """By its name, and nothing outside the zones' folder is read."""
    with pytest.raises(ValueError, match="time zone"):
        Cron("0 9 * * *", zone)


def _utc(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()


@pytest.mark.parametrize(
    ("words", "zone", "now", "expected"),
    [
        ("30 9 * * *", "Asia/Seoul", "2026-11-26 00:29:59", "2026-11-26 00:30:00"),
        ("30 9 * * *", "Asia/Seoul", "2026-11-26 00:30:00", "2026-11-27 00:30:00"),
        # 02:30 is not there that day: it runs at 03:00, as Debian's cron does.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28 12:00:00", "2026-03-29 01:00:00"),
        # 02:30 is there twice that day: it runs once.
        ("30 2 * * *", "Europe/Berlin", "2026-10-25 00:30:00", "2026-10-26 01:30:00"),
        ("0 0 29 2 *", "UTC", "2026-01-01 00:00:00", "2028-02-29 00:00:00"),
    ],
)
def test_cron_counts_in_its_zone(words: str, zone: str, now: str, expected: str) -> None:
    """Strictly after now, across the changes of summer time too."""
    assert Cron(words, zone).after(0, _utc(now)) == _utc(expected)


@pytest.mark.parametrize(("now", "expected"), [(99, 110), (100, 110), (109.9, 110), (110, 120), (1e9 + 5, 1e9 + 10)])
def test_an_interval_keeps_its_beat(now: float, expected: float) -> None:
    """Strictly after now, a whole number of intervals after the first time, whatever was missed."""
    assert Interval(10).after(100, now) == expected


class Row:
    """A job whose zone is not on this host."""

    cancelled, cron, zone, interval_seconds = False, "0 9 * * *", "Mars/Olympus", None
    attempts, attempts_left, scheduled_at, due_at, until = 3, 3, 0.0, 0.0, None


def test_a_job_that_no_longer_comes_is_put_aside() -> None:
    """Its end is taken as ever: no other run's end waits for the zone to be there."""
    found = rests.rest(Row(), "good", None, 100.0)
    assert found is not None and found.state == "aside"


@pytest.mark.parametrize(("now", "waits"), [(10.0, True), (90.0, False)])
def test_an_answer_that_is_waited_for_comes_in_its_time(now: float, waits: bool) -> None:
    """Until then it is tried once more, also after `limited`; the last run is the answer, and nothing lies aside."""
    row = SimpleNamespace(**{**vars(Row), "cron": None, "until": 100.0})
    for outcome in ("limited", "failed"):
        found = rests.rest(row, outcome, 40.0, now)
        assert (found is not None and found.unfinished) is waits
    row.attempts_left = 1
    assert rests.rest(row, "failed", None, 0.0) is None
