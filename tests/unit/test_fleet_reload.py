"""What `fleet reload` applies while the fleet runs, and what needs a new start."""

from __future__ import annotations

from typing import Any

import pytest

from fleet import snapshot
from fleet.errors import ConfigurationError
from fleet.model import Fleet
from fleet.operate.reload import _applicable, _rests

SITE = {"dns": {"resolvers": ["198.18.0.53"]}, "egress": {"urls": ["https://shop.example/ip"]}}


def settings(walls: str, **more: Any) -> Fleet:
    """Settings of three workers, with MORE tables."""
    workers = {"count": 3, **more.pop("workers", {})}
    return Fleet.model_validate({**SITE, "isolation": walls, "workers": workers, **more})


@pytest.mark.parametrize(
    ("walls", "netlink", "now", "left"),
    [
        ("netns", True, {"count": 5}, set()),
        ("netns", False, {"count": 1}, set()),
        ("uid", False, {"count": 5}, set()),
        ("uid", True, {"count": 5}, {"workers.count"}),
        ("netns", False, {"count": 5, "first_uid": 1201}, {"workers.count", "workers.first_uid"}),
        ("netns", False, {"count": 5, "open_files": 9000}, {"workers.open_files"}),
    ],
)
def test_the_count_is_applied_unless_others_would_hear_it(
    walls: str, netlink: bool, now: dict[str, int], left: set[str]
) -> None:
    """In one shared namespace, browsers with netlink notice address changes: then the count needs a new start."""
    running = settings(walls, workers={"deny_netlink": not netlink})
    fleet = settings(walls, workers={"deny_netlink": not netlink, **now}, loop={"attempts": 7})
    wanted = _applicable(running, fleet)
    assert set(snapshot.differences(wanted, fleet)) == left
    assert wanted.loop.attempts == 7
    assert len(wanted.members) == wanted.workers.count == (3 if "workers.count" in left else now["count"])


def test_a_count_that_the_rest_does_not_allow() -> None:
    """A new worker's browser would have the port of the running page: one error, which names the key."""
    page = {"hub": {"jobs": "first", "web": {"port": 10208}}}
    with pytest.raises(ConfigurationError, match=r"^workers\.count: .*10208"):
        _applicable(settings("netns", **page), settings("netns", workers={"count": 5}))


@pytest.mark.parametrize(
    ("events", "rests"),
    [
        (["worker.started"], True),
        (["worker.started", "stage.begun"], False),
        (["stage.begun", "loop.done"], True),
        (["loop.done", "stage.begun", "attempt.failed"], False),
        (["loop.done", "hub.away"], True),
        (["worker.stopped"], False),
        (["stage.begun", "attempt.failed"], False),
        (["loop.not_handed_in"], True),
        ([], False),
    ],
)
def test_who_is_in_no_loop_is_not_waited_for(events: list[str], rests: bool) -> None:
    """A worker that waits for its first or next job is between two loops; log lines that arrive in parts add up."""
    assert _rests(events) == rests
    for at in range(len(events)):
        assert _rests(events[at:], _rests(events[:at])) == rests
