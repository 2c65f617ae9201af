"""The queue over one database, for the hub: every method is a transaction of its own, or several one after the other.

What is called here blocks. What each word means: hub/queue/values.py.
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
"""Where PostgreSQL tells every hub that there is work: for added and recovered jobs alone. A notification takes a lock
of the whole database at its commit, which ends of runs would queue for."""


class Host(NamedTuple):
    """A host in this life of its hub."""

    name: str
    incarnation: str


class Turn(NamedTuple):
    """What those need who change the queue within a transaction."""

    db: sa.Connection
    now: float
    pace: Pace
    record: endings.Record


class Store:
    """The queue. RING is called, after the commit, when a worker of this hub may have something to do."""

    def __init__(
        self,
        database: Database,
        ring: Callable[[], None],
        pace: Pace | None = None,
        record: endings.Record = endings.nothing,
    ) -> None:
        """PACE is that of a site nobody has said anything about. RECORD writes down what else goes with an end."""
        self._database = database
        self._ring = ring
        self._pace = pace or Pace()
        self._record = record

    # --- jobs

    def add(self, jobs: Sequence[Job]) -> list[Receipt]:
        """Add JOBS, in parcels. What was cut off is simply added again: keys see to it that nothing is there twice."""
        parcels = (jobs[start : start + adding.PARCEL] for start in range(0, len(jobs), adding.PARCEL))
        return [receipt for parcel in parcels for receipt in self._add(parcel)]

    def _add(self, parcel: Sequence[Job]) -> list[Receipt]:
        return self.turn(lambda turn: adding.add(turn.db, parcel, turn.pace, turn.now))

    def claim(self, host: Host, workers: Sequence[str], exits: Collection[str] | None = None) -> Claims:
        """A job for each of WORKERS of HOST, where there are any; EXITS that it can have, None: all there are.

        Raises HostFenced: a beat says whether that is so for good. After any other error nobody knows what was leased:
        held() tells, and what no worker has in hand is finished as lost.
        """

        def work(db: sa.Connection) -> Claims:
            now = self._database.now(db)
            hosts.require_alive(db, *host, now)
            return claims.claim(db, host.name, workers, exits, now=now, clock=lambda: self._database.now(db))

        return self._database.run(work)

    def finish(self, ends: Sequence[Finished]) -> list[Taken]:
        """Take the ENDS of runs, all in one transaction. Told again after a lost answer, they change nothing."""
        taken = self._database.run(lambda db: endings.finish(db, ends, self._database.now(db), self._record))
        self._ring()
        return taken

    def cancel(self, ids: Iterable[int]) -> dict[int, Cancelled]:
        """Cancel jobs; a run that has ended before its worker was told keeps its outcome."""
        wanted = list(ids)
        gone, told = self._database.run(lambda db: orders.cancel(db, wanted, self._database.now(db), self._record))
        return {
            job: Cancelled.GONE if job in gone else Cancelled.TOLD if job in told else Cancelled.UNKNOWN
            for job in wanted
        }

    def retry(self, ids: Iterable[int]) -> set[int]:
        """Try jobs that are aside once more: which of IDS they were."""
        wanted = list(ids)
        return self.turn(lambda turn: orders.retry(turn.db, wanted, turn.now))

    def turn(self, work: Callable[[Turn], T]) -> T:
        """The result of WORK, one transaction that may add and end jobs."""

        def told(db: sa.Connection) -> T:
            done = work(Turn(db, self._database.now(db), self._pace, self._record))
            self._notify(db)
            return done

        result = self._database.run(told)
        self._ring()
        return result

    # --- sites

    def sites(self) -> list[Site]:
        """All of them by name."""
        return self._database.run(locks.every, reading=True)

    def pause(self, site: str, *, paused: bool) -> bool:
        """PAUSED: no job of SITE begins; or they do again. Whether there is such a site."""
        known = self._database.run(lambda db: orders.pause(db, site, paused=paused))
        self._ring()
        return known

    def pace(self, site: str, pace: Pace) -> None:
        """Give SITE another PACE, also before the first job of it."""
        self._database.run(lambda db: orders.pace(db, site, pace))
        self._ring()

    # --- hosts

    def enlist(self, host: Host, seconds: float, *, version: str, settings: str) -> None:
        """HOST begins a life, with a lease of SECONDS; VERSION and SETTINGS are for people."""
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
        """HOST ends its life in order."""
        self._database.run(lambda db: hosts.retire(db, *host))

    def held(self, host: Host) -> dict[int, hosts.Lease]:
        """The jobs that a host has, by id, also from an earlier life."""
        return self._database.run(lambda db: hosts.held(db, host.name), reading=True)

    def recover(self) -> int:
        """Give jobs of silent hosts to others; how many. Every hub does, a third of its lease apart."""
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
