"""The loop of a worker: tunnel -> exit proof -> Chrome -> task -> result, again and again.

It is made of nested `with` blocks, so that leaving one cleans up. A failure costs at most its loop, never the worker.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
from collections.abc import Iterator
from datetime import datetime, timezone
from functools import partial

from pydantic import ValidationError

from fleet import log
from fleet.backoff import back_off
from fleet.errors import Answered, ConfigurationError, PageFailed, Unproved, WrongExit, describe
from fleet.machine.files import is_full
from fleet.machine.interrupts import deferred
from fleet.model import Fleet, Paths, TaskSettings, Worker
from fleet.result import Result, RunOrder, of_job
from fleet.sockets import netctl_api
from fleet.sockets.hub_api import Work
from fleet.sockets.wire import Address
from worker import logins, politeness, prepare
from worker.browser import turn
from worker.browser.interface import Installed
from worker.browser.session import Session
from worker.egress import Prover, agrees
from worker.failures import Budget, Reaction
from worker.jobs import Jobs, rest
from worker.kept import Kept
from worker.observation import observe
from worker.record import Record
from worker.robots import Robots, asking
from worker.spool import Spool
from worker.tasks.registry import Ready, resolve
from worker.tunnel import Tunnel

FOREVER = "always"
"""The run's name without an order of `fleet run`."""
_MOST_REST_SECONDS = 60.0
_ROOM_SECONDS = (0.5, 15.0)
"""The pauses of a result that waits for room on the disk: the first, and the longest."""
_log = log.get("worker")


def read_order(paths: Paths) -> RunOrder | None:
    """The order of `fleet run`; None: loop forever. Raises ConfigurationError."""
    try:
        return RunOrder.model_validate_json(paths.run_order.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise ConfigurationError(f"{paths.run_order} is no run order: {error}", hint="fleet run writes it") from error


class Loop:
    """What outlives one loop: the connections to netctl and the hub, the proof's authorities, the spool."""

    def __init__(
        self,
        fleet: Fleet,
        paths: Paths,
        worker: Worker,
        installed: Installed,
        task: Ready | None,
        *,
        server: str | None = None,
    ) -> None:
        """TASK is the task of every loop; None: only jobs. SERVER: use only exits of that server."""
        self._fleet, self._paths, self._worker = fleet, paths, worker
        self._installed, self._task = installed, task
        self._prover = Prover(fleet.egress, prepare.AUTHORITIES)
        self._robots = Robots(asking(prepare.AUTHORITIES))
        self._spool = Spool(paths.spool(worker), fleet.hub.keep, fleet.workers.count)
        self._last: Result | None = None
        self._logins = logins.mine()
        self._kept = Kept(paths.home(worker), fleet.browser.state, self._logins.state)
        self._jobs = Jobs(paths.hub_socket, only=not fleet.loops_task, forget=self._spool.forget)
        deadline = fleet.netctl.request_deadline_seconds
        self._tunnel = Tunnel(paths.netctl_socket, deadline_seconds=deadline, server=server)

    def run(self, order: RunOrder | None) -> None:
        """Loop until ORDER's loops are done, or forever without one; continues after the last loop in the spool."""
        name = order.run if order else FOREVER
        failed_in_a_row, seconds = 0, 0.0
        self._last = self._spool.newest()
        with self._tunnel, self._jobs:
            number = self._spool.last_loop(name)
            while not (order and number >= order.loops):
                if work := self._next(order, seconds):
                    failed = self._do(work)
                else:
                    number += 1
                    rest(politeness.seconds_left(self._last))
                    failed = self._one(name, number)
                failed_in_a_row = failed_in_a_row + 1 if failed else 0
                seconds = self._pause(0 if order else failed_in_a_row, job=work is not None)

    def _next(self, order: RunOrder | None, seconds: float) -> Work | None:
        """Rest for SECONDS; returns a job, which cuts the rest short, or None when `[task]` is next."""
        if order is None and self._fleet.hub.jobs != "none":
            return self._jobs.take(seconds)
        rest(seconds)
        return None

    def _pause(self, failed_in_a_row: int, *, job: bool) -> float:
        """Seconds to rest: politeness to the site (for jobs the hub does that), and more after each failure."""
        grown = min(_MOST_REST_SECONDS, 2.0**failed_in_a_row) if failed_in_a_row else 0.0
        return grown if job else max(self._fleet.loop.pause_seconds, self._robots.delay_seconds or 0.0) + grown

    def _do(self, work: Work) -> bool:
        """Do a job and report it to the hub; returns whether it failed."""
        with log.bound(job=work.job, fence=work.fence):
            failed = self._one(*of_job(work.job, work.fence), work)
            self._jobs.finish(work)
            self._spool.told_of(f"{of_job(work.job, work.fence)[0]}-{work.fence:06d}")
        return failed

    def _one(self, run: str, number: int, work: Work | None = None) -> bool:
        """Do one loop with all its attempts and write its result; returns whether it failed."""
        with log.bound(loop=number, stage="loop"):
            record = self._worked(work)
            return not self._handed_in(run, number, record, work) or record.failed

    def _handed_in(self, run: str, number: int, record: Record, work: Work | None) -> bool:
        """Write the result, on a full disk as soon as there is room; returns whether it is written."""
        for tries in itertools.count(1):
            try:
                with deferred():  # a signal must not leave half a result
                    self._hand_in(run, number, record, work)
                return True
            except Exception as error:  # noqa: BLE001 - it can only be logged; the next loop may succeed
                if not is_full(error):
                    _log.exception("loop.not_handed_in")
                    return False
                if tries == 1:
                    _log.error("disk.full", folder=str(self._spool.folder), waiting="result", hint="make room there")
            rest(back_off(tries, *_ROOM_SECONDS))
        raise AssertionError("counting ends")

    def once(self) -> Record:
        """Do one loop without writing its result."""
        with self._tunnel:
            return self._worked()

    def _worked(self, work: Work | None = None) -> Record:
        record, self._robots.delay_seconds = Record(), None
        try:
            self._attempts(record, work)
        except Answered:
            pass  # it is in the record
        except Exception as error:  # noqa: BLE001 - the loop has failed, which its result says
            _log.error("loop.failed", errors=describe(error), attempts=len(record.failures))
            record.failed = True
        record.finished = datetime.now(timezone.utc)
        return record

    def _attempts(self, record: Record, work: Work | None) -> None:
        budget = Budget(self._fleet.loop.attempts)
        for attempt in budget.retrying(Reaction.RETRY, Reaction.RESTART, Reaction.ROTATE, Reaction.WAIT):
            with attempt, record.noting(budget):
                self._attempt(record, budget, self._task_of(work), work.exit if work else "")

    def _task_of(self, work: Work | None) -> Ready:
        if work is None:
            assert self._task is not None, "there are only jobs"
            return self._task
        return resolve(TaskSettings(run=work.task, options=work.arguments), f"job {work.job}: arguments.")

    def _attempt(self, record: Record, budget: Budget, task: Ready, exit: str) -> None:
        with record.timed("tunnel"):
            record.tunnel = self._have_tunnel(record, exit)
        with record.timed("proof"):
            record.seen = self._prove(record.tunnel)
        with self._browser(record) as browser:
            for attempt in budget.retrying(Reaction.RETRY):
                with attempt, record.noting(budget), self._naming_late_pages():
                    self._tunnel.check()
                    observe(record, task, browser)
        if record.found.seen_address is not None:
            self._compare(record, record.found.seen_address, record.tunnel, record.seen)

    def _have_tunnel(self, record: Record, exit: str) -> netctl_api.Tunnel:
        current = self._tunnel.current
        if current is not None and record.keeps_tunnel:
            return current
        tunnel, rotated = self._tunnel.fresh(exit)
        _log.info(
            "tunnel.ready",
            exit_server=tunnel.exit_server,
            exit_address=str(tunnel.exit_address),
            lease=tunnel.lease,
            rotated=rotated,
            handshake_ms=tunnel.handshake_ms,
        )
        return tunnel

    def _prove(self, tunnel: netctl_api.Tunnel) -> Address:
        try:
            return self._prover.prove(tunnel.exit_address, self._tunnel.proved)
        except Unproved:
            self._tunnel.stuck()
            raise

    @contextlib.contextmanager
    def _naming_late_pages(self) -> Iterator[None]:
        """A page that times out over a connected tunnel may have too large packets for the path: netctl checks that."""
        try:
            yield
        except PageFailed as error:
            if "TIME" not in error.code:
                raise
            self._tunnel.stuck()
            url = str(error.data["url"])
            raise PageFailed(url, error.code, "the tunnel is connected, and its exit was proven") from error

    @contextlib.contextmanager
    def _browser(self, record: Record) -> Iterator[Session]:
        with record.timed("browser_start"):
            self._installed = prepare.current(self._installed, self._fleet.browser, doubted=bool(record.failures))
            browser = Session(
                self._fleet.browser,
                self._installed,
                uid=self._worker.uid,
                turn=partial(turn.of_mine, self._paths.netctl_socket),
                logins=self._logins,
                **({"before_open": self._robots.check} if self._fleet.loop.robots else {}),
            )
        try:
            self._kept.restore(browser)
            yield browser
        finally:
            with record.timed("browser_end", ending=True):
                record.losses += browser.counts()
                self._kept.save(browser)
                browser.close()

    def _compare(self, record: Record, shown: str, tunnel: netctl_api.Tunnel, proven: Address) -> None:
        """Compare the address that the site SHOWED with the proven one: the page may have taken another way."""
        try:
            told = ipaddress.ip_address(shown)
        except ValueError:
            raise WrongExit(f"task.options.seen_address shows {shown[:60]!r}, which is no address") from None
        if not agrees(told, proven, tunnel, self._tunnel.proved):
            record.seen = told
            raise WrongExit(f"the site saw {told}, the proof {proven}")

    def _hand_in(self, run: str, number: int, record: Record, work: Work | None) -> None:
        result = record.result(run, self._worker.name, number)
        result = result.model_copy(
            update={"claim": work and work.claim, "crawl_delay_seconds": self._robots.delay_seconds}
        )
        if result.outcome == "limited":
            seconds = politeness.rest(record.answered, None if work else self._last)
            result = result.model_copy(update={"retry_after_seconds": seconds})
        with record.timed("hand_in", ending=True):
            shots = (record.found.screenshot, *record.found.more_screenshots)
            for name, shot in zip((result.screenshot, *result.more_screenshots), shots, strict=True):
                if name and shot:
                    self._spool.put_screenshot(name, shot)
        result = result.model_copy(update={"stages_ms": record.stages_ms})
        self._last = self._last if work else result
        self._spool.put(result)
        _log.info(
            "loop.done",
            outcome=result.outcome,
            reason=result.reason,
            milliseconds=round((result.finished - result.started).total_seconds() * 1000),
            requests=result.requests,
            network_changed=result.network_changed,
            exit_server=result.exit_server,
            stages_ms=result.stages_ms,
        )
