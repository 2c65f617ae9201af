"""Leaks past the tunnels, as seen by their destinations: the shop, and the ISP's resolver."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta

from lab.places import Places
from lab.topology import HOST_ADDRESS, HOST_ADDRESS_V6

# dnsmasq's own log: `Nov 22 15:52:42 dnsmasq[7]: 2 198.51.100.10/50229 query[A] shop.example from 198.51.100.10`
_QUESTION = re.compile(
    r"^(\w{3} [ \d]\d [\d:]{8}) dnsmasq\[\d+\]: \d+ \S+ query\[(\S+)\] (\S+) from (\S+)$", re.MULTILINE
)

Window = tuple[datetime, datetime]


def find(places: Places, window: Window, exits: Collection[str]) -> tuple[str, ...]:
    """Every leak in WINDOW, as a line for people; EXITS are the addresses that the shop may have seen."""
    return (*_requests(places, window, exits), *_questions(places, window))


def _requests(places: Places, window: Window, exits: Collection[str]) -> Iterator[str]:
    with places.access_log.open(encoding="utf-8") as lines:
        for line in lines:
            seen = json.loads(line)
            time = datetime.fromisoformat(seen["time"])
            if window[0] <= time <= window[1] and seen["address"] not in exits:
                yield f"{seen['time']}: the shop was asked for {seen['path']} by {seen['address']}"


def _questions(places: Places, window: Window) -> Iterator[str]:
    """The resolver's log has whole seconds: only seconds that are completely inside the window count."""
    for moment, kind, name, asker in _QUESTION.findall(places.queries("isp").read_text(errors="replace")):
        time = _with_year(moment, window[0])
        inside = window[0] <= time and time + timedelta(seconds=1) <= window[1]
        if inside and asker in (str(HOST_ADDRESS), str(HOST_ADDRESS_V6)):
            yield f"{time.isoformat()}: the ISP's resolver was asked for {kind} {name} by {asker}"


def _with_year(moment: str, near: datetime) -> datetime:
    """MOMENT (UTC, without a year) as the time closest to NEAR."""
    made = []
    for year in (near.year - 1, near.year, near.year + 1):
        with contextlib.suppress(ValueError):  # 29 February
            made.append(datetime.strptime(f"{year} {moment} +0000", "%Y %b %d %H:%M:%S %z"))
    return min(made, key=lambda one: abs(one - near))
