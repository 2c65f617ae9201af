"""The queue in one database, for the hub: every method is one transaction, or several one after the other.

These methods block. The values are explained in hub/queue/values.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple, TypeVar

import sqlalchemy as sa

from fleet.db import Database
from hub.queue import adding, claims, clock, endings, hosts, locks, orders
from hub.queue.politeness import Site
from hub.queue.values import Cancelled, Claims, Finished, Job, Pace, Receipt, Taken

T = TypeVar("T")
CHANNEL = "fleet_jobs"
"""The channel on which PostgreSQL tells every hub about added and recovered jobs, and nothing else: a notification
takes a lock of the whole database at its commit, for which ends of runs would queue."""


class Host(NamedTuple):
    """A host in one life of its hub."""

    name: str
    incarnation: str


class Turn(NamedTuple):
    """What a change of the queue within a transaction needs."""

    db: sa.Connection
    now: float
    pace: Pace
    record: endings.Record


class Store:
    """The queue. RING is called after the commit when there may be a job for a worker of this hub."""

    def __init__(
        self,
        database: Database,
        ring: Callable[[], None],
        pace: Pace | None = None,
        record: endings.Record = endings.nothing,
    ) -> None:
        """PACE is that of new sites. RECORD records what belongs to an end."""
        self._database = database
        self._ring = ring
        self._pace = pace or Pace()
        self._record = record

    # --- jobs

    def add(self, jobs: Sequence[Job]) -> list[Receipt]:
        """Add JOBS, in parcels. After an interruption add all again: keys prevent duplicates."""
        parcels = (jobs[start : start + adding.PARCEL] for start in range(0, len(jobs), adding.PARCEL))
        return [receipt for parcel in parcels for receipt in self._add(parcel)]

    def _add(self, parcel: Sequence[Job]) -> list[Receipt]:
        return self.turn(lambda turn: adding.add(turn.db, parcel, turn.pace, turn.now))

    def claim(self, host: Host, workers: Sequence[str], exits: Collection[str] | None = None) -> Claims:
        """A job for each of WORKERS of HOST, as far as there are any; EXITS that it has, None: all.

        Raises HostFenced: a beat shows whether that is final. After any other error it is unknown what was leased:
        held() returns it, and jobs that no worker has are finished as lost.
        """

        def work(db: sa.Connection) -> Claims:
            now = self._database.now(db)
            hosts.require_alive(db, *host, now)
            return claims.claim(db, host.name, workers, exits, now=now, clock=lambda: self._database.now(db))

        return self._database.run(work)

    def finish(self, ends: Sequence[Finished]) -> list[Taken]:
        """Take the ENDS of runs in one transaction. Repeating them after a lost answer changes nothing."""
        taken = self._database.run(lambda db: endings.finish(db, ends, self._database.now(db), self._record))
        self._ring()
        return taken

    def cancel(self, ids: Iterable[int]) -> dict[int, Cancelled]:
        """Cancel jobs; a run that ended before its worker was told keeps its outcome."""
        wanted = list(ids)
        gone, told = self._database.run(lambda db: orders.cancel(db, wanted, self._database.now(db), self._record))
        return {
            job: Cancelled.GONE if job in gone else Cancelled.TOLD if job in told else Cancelled.UNKNOWN
            for job in wanted
        }

    def retry(self, ids: Iterable[int]) -> set[int]:
        """Retry jobs that were set aside; returns those of IDS that were."""
        wanted = list(ids)
        return self.turn(lambda turn: orders.retry(turn.db, wanted, turn.now))

    def turn(self, work: Callable[[Turn], T]) -> T:
        """The result of WORK, a transaction that may add and end jobs."""

        def told(db: sa.Connection) -> T:
            done = work(Turn(db, self._database.now(db), self._pace, self._record))
            self._notify(db)
            return done

        result = self._database.run(told)
        self._ring()
        return result

    # --- sites

    def sites(self) -> list[Site]:
        """All sites, by name."""
        return self._database.run(locks.every, reading=True)

    def pause(self, site: str, *, paused: bool) -> bool:
        """Pause SITE, so that no job of it begins, or resume it. Whether there is such a site."""
        known = self._database.run(lambda db: orders.pause(db, site, paused=paused))
        self._ring()
        return known

    def pace(self, site: str, pace: Pace) -> None:
        """Give SITE another PACE, even before its first job."""
        self._database.run(lambda db: orders.pace(db, site, pace))
        self._ring()

    # --- hosts

    def enlist(self, host: Host, seconds: float, *, version: str, settings: str) -> None:
        """Begin a life of HOST with a lease of SECONDS; VERSION and SETTINGS are for people."""
        about = {"version": version, "settings": settings}
        self._database.run(lambda db: hosts.enlist(db, *host, until=self._database.now(db) + seconds, **about))

    def beat(self, host: Host, seconds: float) -> None:
        """Renew the lease of HOST. Raises HostFenced."""

        def work(db: sa.Connection) -> None:
            now = self._database.now(db)
            clock.note(db, now)
            hosts.beat(db, *host, now + seconds)

        self._database.run(work)

    def retire(self, host: Host) -> None:
        """End HOST's life in order."""
        self._database.run(lambda db: hosts.retire(db, *host))

    def held(self, host: Host) -> dict[int, hosts.Lease]:
        """The jobs that a host has, by id, including those of an earlier life."""
        return self._database.run(lambda db: hosts.held(db, host.name), reading=True)

    def recover(self) -> int:
        """Give jobs of silent hosts to others; returns how many. Every hub does this each third of its lease."""
        recovered = 0
        while count := self._database.run(self._recover_some):
            recovered += count
            self._ring()
        return recovered

    def _recover_some(self, db: sa.Connection) -> int:
        now = self._database.now(db)
        hosts.fence(db, now)
        count = hosts.recover(db, now, self._record)
        if count:
            self._notify(db)
        return count

    def _notify(self, db: sa.Connection) -> None:
        if self._database.name == "postgresql":
            db.execute(_NOTIFY)


_NOTIFY = sa.select(sa.func.pg_notify(CHANNEL, ""))
