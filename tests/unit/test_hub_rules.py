"""How rules judge what jobs find: what begins, what is over, what happened, and what is not reported."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import pytest
from pydantic import JsonValue, ValidationError

from fleet.settings.alerts import AlertSettings, AlertTargetSettings
from hub.alerts.rules import State, concerns, heard
from hub.delivery.signing import signed


def rule(when: str, than: float | None = None, **more: Any) -> AlertSettings:
    """A rule about the answer `n`."""
    return AlertSettings.model_validate({"value": "/answer/n", "when": when, "than": than, "targets": ["me"], **more})


def story(one: AlertSettings, *values: JsonValue, exits: str = "") -> list[str | None]:
    """What is told after each run, which found one of VALUES; a text that begins with ! is an outcome without one."""
    state, told = State(), []
    for number, value in enumerate(values):
        lost = isinstance(value, str) and value.startswith("!")
        outcome = str(value)[1:] if lost else "good"
        run = {"outcome": outcome, "answer": None if lost else {"n": value}}
        state, what = heard(one, state, run, exits[number] if exits else "a")
        told.append(what)
    return told


B, E, H, N = "begun", "over", "happened", None


@pytest.mark.parametrize(
    ("one", "values", "told"),
    [
        (rule("below", 10), [11, 9, 8, 10, 9], [N, B, N, E, B]),
        (rule("above", 10), [{"amount": 11, "currency": "KRW"}, {"amount": 10}, "x", True], [B, E, N, N]),
        (rule("below", 10, times=2), [9, 11, 9, 9, 11, 9, 11, 11], [N, N, N, B, N, N, N, E]),
        (rule("below", 10, times=2), [9, "!failed", "!limited", 9], [N, N, N, B]),
        (rule("changed"), ["a", "a", "b", "!lost", "b", "a"], [N, N, H, N, N, H]),
        (rule("changed", times=2), ["a", "a", "b", "a", "b", "b", "b"], [N, N, N, N, N, H, N]),
        (rule("changed"), [{"x": 1, "y": 2}, {"y": 2, "x": 1}, None, {}], [N, N, H, H]),
        (rule("percent", 10), [100, 105, 109, 110, 100, 99], [N, N, N, H, N, H]),
        (rule("percent", 10), [0, 1, 1, -1], [N, H, N, H]),
        (rule("percent", 10, times=2), [100, 100, 120, 100, 120, 121], [N, N, N, N, N, H]),
        (rule("moved", 3), [10, 8, 7, 7, 4, None, 1], [N, N, H, N, H, N, H]),
        (rule("gone"), [1, None, "!absent", 1, [], 2], [N, B, N, E, B, E]),
        (rule("back"), [1, None, 1, 1, None, "!absent", 2], [N, N, H, N, N, N, H]),
        (rule("back"), [None, 1], [N, H]),
        (rule("changed"), ["x" * 9999, "x" * 9999, "x" * 9998], [N, N, H]),
        (rule("percent", 5), [{"amount": 100, "text": "x" * 999}, {"amount": 200}, 10**400, "\ud800"], [N, H, N, N]),
    ],
)
def test_what_is_told(one: AlertSettings, values: list[JsonValue], told: list[str | None]) -> None:
    """Once when it begins, once when it is over, each time it happens; what says nothing changes nothing."""
    assert story(one, *values) == told


@pytest.mark.parametrize(
    ("values", "exits", "told"),
    [
        ([9, 9, 9], "aaa", [N, N, N]),
        ([9, 9], "ab", [N, B]),
        ([9, 11, 9, 11, 11, 9], "abcabc", [N, N, B, E, N, N]),
        ([9, 9, 9, 11, 9, 11], "aaabaa", [N, N, N, N, N, N]),
    ],
)
def test_several_exits_have_to_agree(values: list[JsonValue], exits: str, told: list[str | None]) -> None:
    """Two of the last three: one exit that sees another page than all others is not believed."""
    assert story(rule("below", 10, exits=2, of=3), *values, exits=exits) == told


def test_a_rule_is_about_some_jobs() -> None:
    """A rule selects jobs by their keys and sites."""
    run = {"key": "tea/green", "site": "a"}
    for keys, site, yes in (("*", "", 1), ("tea/*", "", 1), ("tea/*", "b", 0), ("coffee/*", "", 0), ("?", "", 0)):
        assert concerns(rule("changed", jobs=keys, site=site), run) is bool(yes)
    assert not concerns(rule("changed", jobs="tea/*"), {"key": None, "site": "a"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"when": "below"},
        {"when": "changed", "than": 1},
        {"when": "changed", "repeat_minutes": 5},
        {"when": "gone", "exits": 3, "of": 2},
        {"when": "gone", "targets": []},
        {"when": "gone", "value": "answer"},
        {"when": "soon"},
        {"when": "picture"},
        {"when": "picture", "than": 100},
        {"when": "picture", "than": 1, "value": "/answer"},
        {"when": "picture", "than": 1, "masks": [[0, 0, -1, 5]]},
        {"when": "changed", "masks": [[0, 0, 5, 5]]},
    ],
)
def test_a_rule_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    """The error comes before anything starts."""
    with pytest.raises(ValidationError):
        AlertSettings.model_validate({"targets": ["me"], **wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "http://a.example/"},
        {"url": "https://me:secret@a.example/"},
        {"url": "smtp://mail.example"},
        {"url": "smtp://mail.example", "sender": "a@b", "recipients": ["c@d\nBcc: e@f"]},
        {"url": "file:///x"},
    ],
)
def test_a_target_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    """Nothing in the clear unless it is said, no password in an address, no header in a name."""
    with pytest.raises(ValidationError):
        AlertTargetSettings.model_validate(wrong)


def test_a_webhook_is_signed_as_others_check_it() -> None:
    """By the words of standardwebhooks.com: id, time and body, under the secret's bytes."""
    secret = base64.b64encode(b"k" * 24).decode()
    headers = signed("1.2.cheap.begun", b"{}", f"whsec_{secret}", 1700000000)
    assert headers["webhook-id"] == "1-2-cheap-begun", "a dot would end it in what is signed"
    wanted = hmac.new(b"k" * 24, b"1-2-cheap-begun.1700000000.{}", hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(wanted).decode()}"
    assert "webhook-signature" not in signed("x", b"", "", 1)
