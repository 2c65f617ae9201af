"""What one loop gathers while it runs: the times of its stages, what failed, and at its end the Result."""

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
    """One loop. A browser's losses count with every attempt: trying again does not undo a loss."""

    started: datetime = field(default_factory=_now)
    stages_ms: dict[str, float] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    tunnel: Tunnel | None = None
    seen: Address | None = None
    found: Found = field(default_factory=Found)
    losses: Losses = field(default_factory=Losses)
    page: Page | None = None
    """That stood last."""
    notes: tuple[str, ...] = ()
    answered: Answered | None = None
    """The site's answer, where that was not the page."""
    reaction: Reaction | None = None
    """To the failure noted last."""
    stage: str = "start"
    """In which a failure happens that passes now."""
    failed: bool = False
    """It has ended without what it was for."""
    _noted: Exception | None = None

    @contextlib.contextmanager
    def timed(self, stage: str, *, ending: bool = False) -> Iterator[None]:
        """Name and time a stage; attempts add up. Log lines inside carry its name.

        A stage that is ENDING something runs also while the worker stops.
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
        """Every failure is noted once, where it first passes."""
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
        """Whether the failure noted last is nothing that another exit would help."""
        browser_waits = self.reaction is Reaction.WAIT and self.failures[-1].stage == "browser_start"
        return browser_waits or self.reaction in (Reaction.RETRY, Reaction.RESTART)

    @property
    def outcome(self) -> Outcome:
        """Of a loop that has ended."""
        if self.answered is not None:
            return self.answered.outcome
        return "failed" if self.failed else self.found.outcome

    @property
    def reason(self) -> str:
        """Why it is not good, in one line."""
        if self.answered is not None:
            text = str(self.answered)
        elif self.failed:
            text = self.failures[-1].message.partition("\n")[0] if self.failures else "the loop did not come to an end"
        else:
            text = self.found.reason
        return " ".join(text.split())[:500]

    def result(self, run: str, worker: str, loop: int) -> Result:
        """What is handed in; its screenshots lie beside it."""
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
            finished=_now(),
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
