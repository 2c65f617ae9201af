"""What a site's answer means, and how long it is left alone."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from fleet.errors import Answered, PageFailed
from fleet.outside.rest import retry_after
from fleet.result import MOST_REST_SECONDS, Result
from worker import answers, politeness

NOW = datetime(2026, 11, 26, 12, tzinfo=timezone.utc)
URL = "https://shop.example/"


@pytest.mark.parametrize(
    ("status", "headers", "outcome"),
    [
        (401, {}, "refused"),
        (403, {}, "refused"),
        (451, {}, "refused"),
        (200, {"cf-mitigated": "challenge"}, "refused"),
        (202, {"x-amzn-waf-action": "challenge"}, "refused"),
        (429, {}, "limited"),
        (503, {"retry-after": "120"}, "limited"),
        (404, {}, "absent"),
        (410, {}, "absent"),
        (407, {}, "refused"),
        (529, {}, "limited"),
    ],
)
def test_answers(status: int, headers: dict[str, str], outcome: str) -> None:
    """Each kind of answer is one outcome, with the address and the status in its one line."""
    with pytest.raises(Answered, match=f"{URL}: status {status}: ") as caught:
        answers.judge(URL, status, headers)
    assert caught.value.outcome == outcome


@pytest.mark.parametrize("status", [400, 418, 500, 502, 504])
def test_failures_of_a_site_are_no_answers(status: int) -> None:
    """They are failed pages with the status as code."""
    with pytest.raises(PageFailed) as caught:
        answers.judge(URL, status, {})
    assert caught.value.code == f"HTTP_{status}"


@pytest.mark.parametrize("status", [None, 200, 203, 206, 304])
def test_a_page_is_a_page(status: int | None) -> None:
    """Nothing is said of it."""
    answers.judge(URL, status, {"cf-mitigated": "no", "retry-after": "9"})


def test_every_rule_says_why() -> None:
    """A row without a reason could not be judged by who changes it."""
    assert all(rule.why for rule in answers.RULES)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120),
        (" 7 ", 7),
        ("0", 0),
        ("999999999", 3600),
        ("Thu, 26 Nov 2026 12:02:00 GMT", 120),
        ("Thu, 26 Nov 2026 11:00:00 GMT", 0),
        ("Thu, 26 Nov 2036 12:00:00 GMT", 3600),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("Thu, 99 Nov 2026", None),
        ("Thu, 26 Nov 99999999999 12:00:00 GMT", None),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    """Both forms of RFC 9110, bounded; what is neither says nothing."""
    assert retry_after(text, MOST_REST_SECONDS, NOW) == seconds


def test_a_limited_page_is_limited_whatever_its_retry_after() -> None:
    """A date that no computer counts to is no fault of ours: the site is left alone all the same."""
    with pytest.raises(Answered) as caught:
        answers.judge(URL, 429, {"retry-after": "Thu, 26 Nov 99999999999 12:00:00 GMT"})
    assert caught.value.outcome == "limited"


def limited(seconds: float) -> Result:
    """A loop that ended so."""
    made = {"run": "always", "worker": "w1101", "loop": 1, "started": NOW, "finished": NOW, "attempts": 1}
    return Result.model_validate(
        {**made, "ok": False, "outcome": "limited", "retry_after_seconds": seconds, "stages_ms": {}}
    )


def test_rest_of_a_limited_loop() -> None:
    """The site's own word counts; without one the rest doubles with each limited loop, up to an hour."""
    untold = Answered("limited", "status 429")
    assert politeness.rest(Answered("limited", "x", retry_after_seconds=5), limited(600)) == 5
    assert politeness.rest(untold, None) == 60
    assert politeness.rest(untold, limited(60)) == 120
    assert politeness.rest(untold, limited(3000)) == 3600


def test_rest_is_kept_over_a_restart() -> None:
    """What is left of it is told by the last result alone; a clock that was set back makes it no longer."""
    later = NOW + timedelta(seconds=50)
    assert politeness.seconds_left(limited(120), later) == 70
    assert politeness.seconds_left(limited(120), NOW - timedelta(days=1)) == 120
    assert politeness.seconds_left(limited(40), later) == 0
    good = limited(120).model_copy(update={"outcome": "good"})
    assert politeness.seconds_left(good, later) == politeness.seconds_left(None) == 0
