"""Collects the data of one loop while it runs: the times of its stages, its failures, and at the end the Result."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone

from fleet import log
from fleet.errors import Answered, FleetError, PageFailed, describe
from fleet.machine.interrupts import raise_if_stopped
from fleet.outcomes import OK, Outcome
from fleet.plausible import NAME_CHARACTERS
from fleet.result import Failure, Losses, Result
from fleet.sockets.netctl_api import Tunnel
from fleet.sockets.wire import Address
from worker.browser.interface import Page
from worker.failures import Budget, Reaction, reaction
from worker.tasks.contract import Found

_log = log.get("worker")


def _now() -> datetime:
    return datetime.now(timezone.utc)


@dataclass
class Record:
    """The data of one loop. The browsers' losses of all attempts are summed up."""

    started: datetime = field(default_factory=_now)
    finished: datetime | None = None
    """When its work had ended: its result may wait for room on the disk."""
    stages_ms: dict[str, float] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    tunnel: Tunnel | None = None
    seen: Address | None = None
    found: Found = field(default_factory=Found)
    losses: Losses = field(default_factory=Losses)
    page: Page | None = None
    """The last page that was loaded."""
    notes: tuple[str, ...] = ()
    answered: Answered | None = None
    """The site's answer, if it was not the page."""
    reaction: Reaction | None = None
    """The reaction to the last failure."""
    stage: str = "start"
    """The present stage, to which a failure now belongs."""
    failed: bool = False
    """Whether the loop has failed."""
    _noted: Exception | None = None

    @contextlib.contextmanager
    def timed(self, stage: str, *, ending: bool = False) -> Iterator[None]:
        """Name and time a stage; the times of all attempts are added. Log lines in the block have its name.

        An ENDING stage also runs while the worker is stopping.
        """
        if not ending:
            raise_if_stopped()
        stage = stage[:NAME_CHARACTERS]
        before, self.stage = self.stage, stage
        started = time.monotonic()
        try:
            with log.bound(stage=stage):
                _log.info("stage.begun")
                yield
            self.stage = before
        finally:
            passed = (time.monotonic() - started) * 1000
            self.stages_ms[stage] = round(self.stages_ms.get(stage, 0.0) + passed, 2)

    @contextlib.contextmanager
    def noting(self, budget: Budget) -> Iterator[None]:
        """Record failures that pass through the block; each is recorded once, by the innermost block."""
        try:
            yield
        except Answered as error:
            self.answered = error
            raise
        except Exception as error:
            if error is not self._noted:
                self._noted = error
                budget.spend(error)
                self._note(error)
            raise

    def _note(self, error: Exception) -> None:
        name = f"net::{error.code}" if isinstance(error, PageFailed) else type(error).__name__
        text, self.reaction = "\n".join(describe(error)), reaction(error)
        self.failures.append(Failure(name=name[:NAME_CHARACTERS], message=text[:2000], stage=self.stage))
        _log.warning(
            "attempt.failed",
            stage=self.stage,
            name=name,
            reason=text,
            reaction=self.reaction.value,
            exc_info=not isinstance(error, FleetError),
        )

    @property
    def keeps_tunnel(self) -> bool:
        """Whether another exit would not help against the last failure."""
        browser_waits = self.reaction is Reaction.WAIT and self.failures[-1].stage == "browser_start"
        return browser_waits or self.reaction in (Reaction.RETRY, Reaction.RESTART)

    @property
    def outcome(self) -> Outcome:
        """The outcome of the ended loop."""
        if self.answered is not None:
            return self.answered.outcome
        return "failed" if self.failed else self.found.outcome

    @property
    def reason(self) -> str:
        """Why it is not good, as one line."""
        if self.answered is not None:
            text = str(self.answered)
        elif self.failed:
            text = self.failures[-1].message.partition("\n")[0] if self.failures else "the loop did not come to an end"
        else:
            text = self.found.reason
        return " ".join(text.split())[:500]

    def result(self, run: str, worker: str, loop: int) -> Result:
        """The result to write; it names its screenshots, which are written beside it."""
        tunnel, page = self.tunnel, self.page
        outcome = self.outcome
        made = Result(
            run=run,
            worker=worker,
            loop=loop,
            ok=outcome in OK,
            outcome=outcome,
            reason=self.reason,
            status=page.status if page else None,
            address=page.url[:2000] if page else None,
            redirects=page.redirects if page else (),
            notes=self.notes,
            started=self.started,
            finished=self.finished or _now(),
            attempts=len(self.failures) + (not self.failed),
            failures=tuple(self.failures),
            exit_server=tunnel.exit_server if tunnel else None,
            exit_address=(tunnel.exit_address or self.seen) if tunnel else None,
            seen_address=self.seen,
            lease=tunnel.lease if tunnel else None,
            stages_ms=self.stages_ms,
            handshake_ms=tunnel.handshake_ms if tunnel else None,
            rotate_ms=tunnel.rotate_ms if tunnel else None,
            answer=self.found.answer,
            answer_cut=self.found.answer_cut,
            **self.losses.model_dump(),
        )
        found, stem = self.found, made.file_stem
        more = tuple(f"{stem}_{number:02}.{_kind(one)}" for number, one in enumerate(found.more_screenshots, 1))
        one = f"{stem}.{_kind(found.screenshot)}" if found.screenshot else None
        return made.model_copy(update={"screenshot": one, "more_screenshots": more})


def _kind(picture: bytes) -> str:
    return "webp" if picture.startswith(b"RIFF") else "png"
