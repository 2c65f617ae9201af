"""Which tunnels are asked for their counters: those that carry something, and now and then all."""

from __future__ import annotations

from collections.abc import Iterator

from netctl.slots.health import ALL_EVERY, LinkCounters, counters

HEADINGS = "Inter-|   Receive |  Transmit\n face |bytes packets|bytes packets\n"


def dev(**sent: int) -> str:
    """What /proc/net/dev says of links that have sent so much."""
    return HEADINGS + "".join(f" {name}: 0 0 {count} 1\n" for name, count in sent.items())


def looks(*texts: str) -> list[set[str]]:
    """What each look gives."""
    rest: Iterator[str] = iter(texts)
    movement = LinkCounters(lambda: next(rest))
    return [set(movement.look()) for _ in texts]


def test_counters_are_told_apart_by_name() -> None:
    """A name that fills its column has no space behind its colon."""
    assert counters(f"{HEADINGS}wg101:12 3 4 5\n    lo: 1 2 3 4\n") == {"wg101": "12 3 4 5", "lo": " 1 2 3 4"}


def test_who_moves_is_asked_and_once_more() -> None:
    """New or moving: asked; one that has just stopped, as a device that hangs has: asked once more; at rest: not."""
    seen = looks(dev(wg101=0, wg102=0), dev(wg101=0, wg102=5), dev(wg101=0, wg102=9), *[dev(wg101=0, wg102=9)] * 2)
    assert seen == [{"wg101", "wg102"}, {"wg101", "wg102"}, {"wg102"}, {"wg102"}, set()]


def test_now_and_then_all_are_asked() -> None:
    """What hangs at rest is found too."""
    seen = looks(*[dev(wg101=0)] * (2 * ALL_EVERY))
    assert [index + 1 for index, asked in enumerate(seen) if asked] == [1, 2, ALL_EVERY, 2 * ALL_EVERY]
