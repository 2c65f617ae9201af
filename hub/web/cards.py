"""Workers, watches and sites at a glance: builds their cards. Pure."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any, Literal

from pydantic import BaseModel

from fleet.given_up import All, GivenUp
from fleet.outcomes import OK
from hub.queue import watching
from hub.queue.politeness import Site
from hub.service import Seat
from hub.web.health import state_of

TICKS = 20
MOST_SITES = 200
IN_A_ROW = 3
"""Bad ends in a row that mean trouble."""
AWAY = ("away", "stopped")
"""States of workers that do not run: by themselves, and stopped by somebody."""
_WORKERS_FAULT = ("failed", "lost")
_SITES_WORD = ("failed", "refused", "limited", "absent")
Level = Literal["wrong", "watch", "fine"]
Trouble = Literal["", "disk", "workers", "results", "watches"]
_ORDER: tuple[Level, ...] = ("wrong", "watch", "fine")


class Run(BaseModel, frozen=True):
    """An ended run, without its answer."""

    job: int
    fence: int
    key: str | None
    site: str
    task: str
    worker: str | None
    exit: str | None
    began_at: float | None
    ended_at: float
    outcome: str
    error: str | None
    """Its beginning."""


class Card(BaseModel, frozen=True):
    """A worker, a watch or a site at a glance."""

    id: str
    name: str
    state: str
    level: Level
    detail: str
    last_at: float | None
    """When its last run ended, among the runs that are read."""
    ticks: tuple[Run, ...]
    """The newest runs, in order of time."""


class Fleet(BaseModel, frozen=True):
    """The overview. Cards with trouble come first."""

    now: float
    last_at: float | None
    last_good_at: float | None
    trouble: Trouble
    """One word for what stops all work, or for late watches; "": nothing."""
    given_up: tuple[GivenUp, ...]
    """Programs of this host that supervisord has given up."""
    workers: tuple[Card, ...]
    watches: tuple[Card, ...]
    sites: tuple[Card, ...]


def fleet_of(
    seats: Iterable[Seat],
    watches: Iterable[watching.Watch],
    sites: Iterable[Site],
    runs: list[Run],
    *,
    full: bool,
    away: All,
) -> Fleet:
    """The overview."""
    now = time.time()
    of_worker, of_site, of_job = grouped(runs, "worker"), grouped(runs, "site"), grouped(runs, "job")
    workers = [_worker(seat, of_worker.get(seat.worker.name, ()), away.stopped) for seat in seats]
    looked_at = [_watch(watch, of_job.get(watch.job, ()), now) for watch in watches]
    places = [site_card(site, of_site.get(site.name, ()), now) for site in sites]
    good = next((one.ended_at for one in runs if one.outcome in OK), None)
    late = any(card.state == "late" for card in looked_at)
    return Fleet(
        now=now,
        last_at=runs[0].ended_at if runs else None,
        last_good_at=good,
        trouble=_trouble(workers, runs, full=full) or ("watches" if late else ""),
        given_up=away.programs,
        workers=tuple(sorted(workers, key=_rank)),
        watches=tuple(sorted(looked_at, key=_rank)),
        sites=tuple(sorted(places, key=_rank)[:MOST_SITES]),
    )


def _trouble(workers: Collection[Card], runs: list[Run], *, full: bool) -> Trouble:
    if full:
        return "disk"
    if are_away(workers):
        return "workers"
    last = runs[: max(IN_A_ROW, len(workers))]
    return "results" if len(last) >= IN_A_ROW and not any(one.outcome in OK for one in last) else ""


def are_away(workers: Collection[Card]) -> bool:
    """Whether there are workers, and none of them runs."""
    return bool(workers) and all(card.state in AWAY for card in workers)


def grouped(runs: list[Run], name: str) -> dict[Any, tuple[Run, ...]]:
    """The newest TICKS of each, the oldest first."""
    found: dict[Any, list[Run]] = {}
    for one in runs:
        found.setdefault(getattr(one, name), []).append(one)
    return {key: tuple(reversed(many[:TICKS])) for key, many in found.items()}


def _worker(seat: Seat, ticks: tuple[Run, ...], stopped: Collection[str]) -> Card:
    state = "busy"
    if seat.held:
        state = "working"
    elif seat.connection is None:
        state = "stopped" if f"worker:{seat.worker.name}" in stopped else "away"
    elif seat.rests_until > time.monotonic():
        state = "resting"
    elif seat.waiting:
        state = "waiting"
    wrong = state == "away" or (state != "stopped" and _in_a_row(ticks, _WORKERS_FAULT))
    level: Level = "wrong" if wrong else "watch" if state in ("resting", "stopped") else "fine"
    detail = f"{seat.held.job}.{seat.held.fence}" if seat.held else ""
    name = seat.worker.name
    return Card(id=f"w-{name}", name=name, state=state, level=level, detail=detail, last_at=_last(ticks), ticks=ticks)


def _watch(watch: watching.Watch, ticks: tuple[Run, ...], now: float) -> Card:
    good = [one.ended_at for one in ticks if one.outcome in OK][-1:]
    known = [at for at in (watch.last_good_at, *good) if at is not None]
    state = state_of(replace(watch, last_good_at=max(known, default=None)), now)
    level: Level = "wrong" if state == "late" else "watch" if state == "paused" else "fine"
    return Card(
        id=f"j-{watch.job}",
        name=watch.key or f"{watch.site} {watch.task} {watch.job}",
        state=state,
        level=level,
        detail=watch.site,
        last_at=_last(ticks) or watch.last_at,
        ticks=ticks,
    )


def site_card(site: Site, ticks: tuple[Run, ...], now: float) -> Card:
    """SITE with its newest runs."""
    state = site_state(site, now)
    wrong = _in_a_row(ticks, _SITES_WORD)
    level: Level = "wrong" if wrong else "watch" if state in ("paused", "slowed") else "fine"
    name, detail = site.name, f"{site.running}/{site.most}"
    return Card(id=f"s-{name}", name=name, state=state, level=level, detail=detail, last_at=_last(ticks), ticks=ticks)


def site_state(site: Site, now: float) -> str:
    """A word for SITE."""
    slowed = site.slowed > 1 or site.polite_at > now + max(60.0, 2 * site.interval_seconds)
    return "paused" if site.paused else "slowed" if slowed else "running" if site.running else "quiet"


def _last(ticks: tuple[Run, ...]) -> float | None:
    return ticks[-1].ended_at if ticks else None


def _in_a_row(ticks: tuple[Run, ...], words: tuple[str, ...]) -> bool:
    last = ticks[-IN_A_ROW:]
    return len(last) == IN_A_ROW and all(one.outcome in words for one in last)


def ranked(level: Level) -> int:
    """The worst comes first."""
    return _ORDER.index(level)


def _rank(card: Card) -> tuple[int, str]:
    return ranked(card.level), card.name
