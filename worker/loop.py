"""The loop of a worker: tunnel -> exit proven -> Chrome -> task -> handed in, again and again.

Nested `with` blocks, so that leaving is the transition. Stages are timed here and nowhere else.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone

from pydantic import ValidationError

from fleet import log, netctl_api, wire
from fleet.errors import BrowserDied, ConfigurationError, ElementMissing, FleetError, PageFailed, WrongExit, describe
from fleet.model import Fleet, Paths, Worker
from fleet.result import Failure, Result, RunOrder
from worker import signals
from worker.browser.interface import Counts, Installed
from worker.browser.session import Session
from worker.egress import Prover
from worker.failures import Budget, Reaction, reaction
from worker.prepare import AUTHORITIES
from worker.spool import Spool
from worker.tasks.contract import Context, Found
from worker.tasks.registry import Ready
from worker.tunnel import Tunnel

FOREVER = "always"
"""The run's name where nobody ordered one."""
_MOST_REST_SECONDS = 60.0
_log = log.get("worker")


def read_order(paths: Paths) -> RunOrder | None:
    """What `fleet run` asks, None for loops without end; raises ConfigurationError."""
    try:
        return RunOrder.model_validate_json(paths.run_order.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise ConfigurationError(f"{paths.run_order} is no run order: {error}", hint="fleet run writes it") from error


@dataclass
class Record:
    """What one loop gathers while it runs."""

    started: datetime
    stages_ms: dict[str, float] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    tunnel: netctl_api.Tunnel | None = None
    rotate_ms: float | None = None
    seen: wire.Address | None = None
    found: Found = field(default_factory=Found)
    pages: int = 0
    requests: int = 0
    network_changed: int = 0
    other_losses: int = 0

    def add(self, counts: Counts) -> None:
        """Sum up the browsers of all attempts: a loss is not undone by trying again."""
        self.pages += counts.pages
        self.requests += counts.requests
        self.network_changed += counts.network_changed
        self.other_losses += counts.other_losses


class Loop:
    """Everything that outlives one loop: the tunnel's connection, the proof's authorities, the spool."""

    def __init__(self, fleet: Fleet, paths: Paths, worker: Worker, installed: Installed, task: Ready) -> None:
        self._fleet, self._paths, self._worker = fleet, paths, worker
        self._installed, self._task = installed, task
        self._prover = Prover(fleet.egress, paths, AUTHORITIES)
        self._spool = Spool(paths.spool(worker))
        self._tunnel = Tunnel(paths.netctl_socket, deadline_seconds=fleet.netctl.request_deadline_seconds)
        self._stage = "start"

    def run(self, order: RunOrder | None) -> None:
        """Loop until ORDER's loops are done, for ever without one; goes on where an earlier life ended."""
        name = order.run if order else FOREVER
        failed_in_a_row = 0
        with self._tunnel:
            for number in itertools.count(self._spool.last_loop(name) + 1):
                if order and number > order.loops:
                    return
                with log.bound(loop=number, stage="loop"):
                    good = self._one(name, number)
                failed_in_a_row = 0 if good else failed_in_a_row + 1
                self._rest(0 if order else failed_in_a_row)

    def _rest(self, failed_in_a_row: int) -> None:
        """Politeness to the watched site; growing rest for a worker that only fails, for ever."""
        grown = min(_MOST_REST_SECONDS, 2.0**failed_in_a_row) if failed_in_a_row else 0.0
        if (seconds := self._fleet.loop.pause_seconds + grown) > 0:
            threading.Event().wait(seconds)  # nothing sets it: a rest that SIGTERM ends

    def _one(self, run: str, number: int) -> bool:
        """One loop with all its attempts, handed in whether good or failed."""
        record = Record(started=datetime.now(timezone.utc))
        budget = Budget(self._fleet.loop.attempts)
        good = self._attempts(record, budget)
        with signals.deferred():
            self._hand_in(run, number, record, budget, good)
        return good

    def _attempts(self, record: Record, budget: Budget) -> bool:
        kept = False  # whether this attempt may go on with the tunnel of the one before
        try:
            for attempt in budget.retrying(Reaction.RETRY, Reaction.RESTART, Reaction.ROTATE, Reaction.WAIT):
                with attempt, self._noting(record, budget):
                    self._attempt(record, budget, keep_tunnel=kept)
                outcome = attempt.retry_state.outcome
                error = outcome.exception() if outcome else None
                kept = error is not None and reaction(error) in (Reaction.RETRY, Reaction.RESTART)
        except Exception as error:  # noqa: BLE001 - the loop's last word: it is handed in as failed
            _log.error("loop.failed", errors=describe(error), attempts=len(record.failures))
            return False
        return True

    @contextlib.contextmanager
    def _noting(self, record: Record, budget: Budget) -> Iterator[None]:
        """Every failure is noted once, where it first passes."""
        try:
            yield
        except Exception as error:
            if not getattr(error, "noted", False):
                error.noted = True  # type: ignore[attr-defined]
                budget.spend(error)
                self._note(record, error)
            raise

    def _note(self, record: Record, error: Exception) -> None:
        name = f"net::{error.code}" if isinstance(error, PageFailed) else type(error).__name__
        text = "\n".join(describe(error))
        record.failures.append(Failure(name=name, message=text[:2000], stage=self._stage))
        answer = reaction(error)
        ours = isinstance(error, FleetError)
        _log.warning(
            "attempt.failed", stage=self._stage, name=name, reason=text, reaction=answer.value, exc_info=not ours
        )

    def _attempt(self, record: Record, budget: Budget, *, keep_tunnel: bool) -> None:
        with self._timed(record, "tunnel"):
            record.tunnel = self._have_tunnel(record, keep=keep_tunnel)
        with self._timed(record, "proof"):
            record.seen = self._prove(record.tunnel)
        with self._browser(record) as browser:
            for attempt in budget.retrying(Reaction.RETRY):
                with attempt, self._noting(record, budget):
                    self._tunnel.check()
                    record.found = self._do_task(record, browser)
        self._compare(record)

    def _have_tunnel(self, record: Record, *, keep: bool) -> netctl_api.Tunnel:
        current = self._tunnel.current
        if keep and current is not None:
            return current
        tunnel, rotated = self._tunnel.fresh()
        record.rotate_ms = tunnel.total_milliseconds if rotated else None
        _log.info(
            "tunnel.ready",
            exit_server=tunnel.exit_server,
            exit_address=str(tunnel.exit_address),
            lease=tunnel.lease,
            rotated=rotated,
            milliseconds=round(tunnel.total_milliseconds, 1),
        )
        return tunnel

    def _prove(self, tunnel: netctl_api.Tunnel) -> wire.Address:
        seen = self._prover.prove(tunnel.exit_address)
        if tunnel.exit_address is None:
            self._tunnel.proved(seen)
        return seen

    @contextlib.contextmanager
    def _browser(self, record: Record) -> Iterator[Session]:
        with self._timed(record, "browser_start"):
            browser = Session(self._fleet.browser, self._installed, uid=self._worker.uid, gate=self._paths.gate)
        try:
            yield browser
        finally:
            with self._timed(record, "browser_end", ending=True):
                record.add(browser.counts())
                browser.close()

    def _do_task(self, record: Record, browser: Session) -> Found:
        @contextlib.contextmanager
        def stage(name: str) -> Iterator[None]:
            with self._timed(record, name):
                yield

        try:
            return self._task.run(Context(browser=browser, options=self._task.options, stage=stage))
        except (ElementMissing, PageFailed):
            # What the page looked like instead is worth more than any message.
            with contextlib.suppress(BrowserDied):
                record.found = Found(screenshot=browser.screenshot())
            raise

    def _compare(self, record: Record) -> None:
        """The site's own word against the proof: the page may have come another way than the question."""
        if record.found.seen_address is None:
            return
        try:
            told = ipaddress.ip_address(record.found.seen_address)
        except ValueError:
            text = record.found.seen_address[:60]
            raise WrongExit(f"task.options.seen_address shows {text!r}, which is no address") from None
        assert record.seen is not None  # proven before the task
        if not self._prover.agrees(told, record.seen, record.tunnel):
            proven, record.seen = record.seen, told
            raise WrongExit(f"the site saw {told}, the proof {proven}")

    @contextlib.contextmanager
    def _timed(self, record: Record, stage: str, *, ending: bool = False) -> Iterator[None]:
        """Name and time a stage; attempts add up. Log lines inside carry its name.

        A stage that is ENDING something runs also while the worker stops.
        """
        if not ending:
            signals.raise_if_stopping()
        before, self._stage = self._stage, stage
        started = time.monotonic()
        try:
            with log.bound(stage=stage):
                _log.info("stage.begun")
                yield
            self._stage = before
        finally:
            passed = (time.monotonic() - started) * 1000
            record.stages_ms[stage] = round(record.stages_ms.get(stage, 0.0) + passed, 2)

    def _hand_in(self, run: str, number: int, record: Record, budget: Budget, good: bool) -> None:
        tunnel, png = record.tunnel, record.found.screenshot
        name = f"{run}-{number:06d}.png" if png else None
        with self._timed(record, "hand_in", ending=True):
            if png and name:
                self._spool.put_screenshot(name, png)
        finished = datetime.now(timezone.utc)
        result = Result(
            run=run,
            worker=self._worker.name,
            loop=number,
            ok=good,
            started=record.started,
            finished=finished,
            attempts=len(record.failures) + good,
            failures=tuple(record.failures),
            exit_server=tunnel.exit_server if tunnel else None,
            exit_address=(tunnel.exit_address or record.seen) if tunnel else None,
            seen_address=record.seen,
            lease=tunnel.lease if tunnel else None,
            stages_ms=record.stages_ms,
            handshake_ms=tunnel.handshake_milliseconds if tunnel else None,
            rotate_ms=record.rotate_ms,
            pages=record.pages,
            requests=record.requests,
            network_changed=record.network_changed,
            other_losses=record.other_losses,
            screenshot=name,
            answer=record.found.answer,
        )
        self._spool.put(result)
        _log.info(
            "loop.done",
            ok=good,
            milliseconds=round((finished - record.started).total_seconds() * 1000),
            requests=record.requests,
            network_changed=record.network_changed,
            exit_server=result.exit_server,
            stages_ms=record.stages_ms,
        )
