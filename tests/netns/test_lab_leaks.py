"""A leak would be seen: the positive control of the demo's zero."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from lab import leaks
from lab.net import Lab


def test_requests_and_questions_past_the_tunnels_are_found(lab: Lab) -> None:
    """The host asks the shop and the ISP's resolver without a tunnel: both are reported, only in their time window."""
    start = datetime.now(timezone.utc) - timedelta(seconds=1)
    address = ["curl", "-sS", "-4", "--cacert", str(lab.places.authority), "https://shop.example/ip?leak"]
    assert lab.run("host", address).stdout == "198.51.100.10"
    end = datetime.now(timezone.utc) + timedelta(seconds=1)
    found = "\n".join(leaks.find(lab.places, (start, end), {"203.0.113.11"}))
    assert "the shop was asked for /ip by 198.51.100.10" in found
    assert "resolver was asked for A shop.example by 198.51.100.10" in found
    assert "/ip" not in "\n".join(leaks.find(lab.places, (start, end), {"198.51.100.10", "2001:db8:1::10"}))
    later = (end + timedelta(hours=1), end + timedelta(hours=2))
    assert leaks.find(lab.places, later, set()) == ()
