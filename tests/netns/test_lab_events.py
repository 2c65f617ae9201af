"""The demo's listener and its control: every address event is recorded, and today's habit causes some."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import tenacity

from fleet.model import Worker
from lab import run
from lab.events import AddressListener
from lab.habit import habit
from lab.net import Lab

soon = tenacity.retry(stop=tenacity.stop_after_delay(5), wait=tenacity.wait_fixed(0.02), reraise=True)


def heard(listener: AddressListener) -> list[tuple[str, str]]:
    """All events so far."""
    now = datetime.now(timezone.utc)
    return [(event.kind, event.address) for event in listener.between(now - timedelta(minutes=1), now)]


def test_address_events_of_the_host_are_heard(lab: Lab) -> None:
    """Adding and deleting an address gives two events, for IPv4 and IPv6; link changes and other hosts give none."""
    with AddressListener(lab.topology.namespace("host")) as listener:
        for host, address in (("host", "192.0.2.77/32"), ("web", "192.0.2.78/32"), ("host", "2001:db8:9::7/128")):
            for verb in ("add", "del"):
                assert lab.run(host, ["ip", "address", verb, address, "dev", "lo"]).returncode == 0
        assert lab.run("host", ["ip", "link", "set", "uplink", "txqueuelen", "999"]).returncode == 0

        @soon
        def all_there() -> None:
            # The kernel announces an IPv6 address again after duplicate address detection.
            assert list(dict.fromkeys(heard(listener))) == [
                ("new", "192.0.2.77"),
                ("del", "192.0.2.77"),
                ("new", "2001:db8:9::7"),
                ("del", "2001:db8:9::7"),
            ]

        all_there()
        later = datetime.now(timezone.utc) + timedelta(seconds=1)
        assert listener.between(later, later + timedelta(minutes=1)) == []


def test_todays_habit_makes_address_events(lab: Lab) -> None:
    """For every loop of a worker its interface is deleted and made again with its address."""
    worker = Worker(uid=1298)
    spool = run.paths(lab).spool(worker)
    spool.mkdir(parents=True)
    try:
        host = lab.topology.namespace("host")
        with AddressListener(host) as listener, habit(host, [worker], run.paths(lab)):

            @soon
            def first() -> None:
                assert ("new", "192.0.2.48") in heard(listener)

            first()
            (spool / "run-1-000001.json").touch()

            @soon
            def again() -> None:
                events = heard(listener)
                assert events.index(("del", "192.0.2.48")) < events.index(("new", "192.0.2.48"), 1)

            again()
    finally:
        (spool / "run-1-000001.json").unlink(missing_ok=True)
        spool.rmdir()
        lab.run("host", ["ip", "link", "delete", "old298"])
