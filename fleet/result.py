"""The result of one loop, as the worker writes it and every reader gets it."""

from __future__ import annotations

from typing import Any, Final

from pydantic import AwareDatetime, BaseModel, Field, JsonValue, model_validator

from fleet.outcomes import Outcome
from fleet.sockets.wire import Address, Message

MOST_REST_SECONDS: Final = 3600.0
"""A longer Retry-After is cut to this: a worker that waits for days would look like one that hangs."""
MOST_PICTURES: Final = 20
"""The most pictures of one result."""
VERSION = 1
"""The version of Result. It grows when a field changes its meaning, not when a field is added."""


class RunOrder(Message):
    """The order of `fleet run` to the workers, in `run.json` of the run folder; without one they loop forever."""

    run: str = Field(pattern=r"^[a-z0-9-]{1,40}$")
    loops: int = Field(ge=1)


class Losses(BaseModel, frozen=True):
    """How many requests browsers made and lost, main frames and sub-resources alike.

    Two of them (or of subclasses) can be added; the sum is a Losses.
    """

    pages: int = 0
    """Pages that were opened and loaded."""
    requests: int = 0
    network_changed: int = 0
    """Requests lost to ERR_NETWORK_CHANGED."""
    other_losses: int = 0
    """Requests lost for any other reason, except those that the page itself aborted (ERR_ABORTED)."""

    def __add__(self, other: Losses) -> Losses:
        return Losses(**{name: getattr(self, name) + getattr(other, name) for name in Losses.model_fields})


class Failure(BaseModel, frozen=True):
    """Why an attempt or a loop failed."""

    name: str
    """The error's class name, or Chrome's (`net::ERR_...`)."""
    message: str
    stage: str
    """The stage in which it happened: a key of stages_ms, or `task` between two stages of the task."""


class Result(Losses, frozen=True, allow_inf_nan=False):
    """One loop of one worker, good or failed. Readers ignore unknown fields."""

    version: int = VERSION
    """VERSION of its writer; a result without this field has version 1."""
    run: str
    worker: str
    loop: int = Field(ge=1)
    """Counts within the run."""
    claim: str | None = None
    """For a job from the hub: the hub's token for this run (fleet.sockets.hub_api.Work)."""
    ok: bool
    """The outcome is good or empty."""
    outcome: Outcome = "failed"
    """A result without this field is from release 0.1: good or failed, as `ok` says."""
    reason: str = ""
    """Why the outcome is not good, as one line."""
    status: int | None = None
    """The HTTP status of the last page that loaded."""
    address: str | None = None
    """The final address of that page."""
    redirects: tuple[str, ...] = ()
    """The addresses that redirected to it."""
    retry_after_seconds: float | None = Field(default=None, ge=0, le=MOST_REST_SECONDS)
    """How long a site with the outcome `limited` asked to be left alone; the worker waits that long."""
    crawl_delay_seconds: float | None = Field(default=None, ge=0, le=MOST_REST_SECONDS)
    """The pause between two visits that the robots.txt of the opened sites ask for."""
    notes: tuple[str, ...] = ()
    """What a person would have noticed beside the page: dialogs, refused downloads, requests that hang."""
    started: AwareDatetime
    finished: AwareDatetime
    attempts: int
    failures: tuple[Failure, ...] = ()
    """Every attempt that failed, in order; a good loop may have some."""
    exit_server: str | None = None
    exit_address: Address | None = None
    """The leased exit's address."""
    seen_address: Address | None = None
    """The address that the site saw, if the page showed it to the task; else the proven one."""
    lease: str | None = None
    stages_ms: dict[str, float]
    """Milliseconds by stage, in order: tunnel, proof, browser_start, load, search, screenshot, browser_end, hand_in."""
    handshake_ms: float | None = None
    rotate_ms: float | None = None
    """netctl's own time from request to answer, handshake included; None on a worker's first connect."""
    screenshot: str | None = None
    """File name beside the JSON."""
    more_screenshots: tuple[str, ...] = ()
    """File names for the other pages that were opened, in order, if a picture of each was requested."""
    answer: dict[str, JsonValue] = Field(default_factory=dict)
    """The answer of the task."""
    answer_cut: bool = False
    """Whether texts or entries were cut from an answer that was too long."""

    @model_validator(mode="before")
    @classmethod
    def _one_of_before(cls, given: Any) -> Any:
        if isinstance(given, dict) and "outcome" not in given and "ok" in given:
            return {**given, "outcome": "good" if given["ok"] is True else "failed"}
        return given

    @property
    def file_stem(self) -> str:
        return f"{self.run}-{self.loop:06d}"


def of_job(job: int, fence: int) -> tuple[str, int]:
    """The run and loop names of the result of a job's run."""
    return f"job-{job}", fence
