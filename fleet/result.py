"""The result of one loop: what a worker hands in, and every reader gets."""

from __future__ import annotations

from typing import Any, Final

from pydantic import AwareDatetime, BaseModel, Field, JsonValue, model_validator

from fleet.outcomes import Outcome
from fleet.sockets.wire import Address, Message

MOST_REST_SECONDS: Final = 3600.0
"""A longer Retry-After is cut to this: a worker that never asks again would look like one that hangs."""
MOST_PICTURES: Final = 20
"""Of one result."""
VERSION = 1
"""Of a Result's fields. It grows when a field gets another meaning; a field that is only added changes nothing."""


class RunOrder(Message):
    """What `fleet run` asks of the workers, in `run.json` of the run folder; absent: loop for ever."""

    run: str = Field(pattern=r"^[a-z0-9-]{1,40}$")
    loops: int = Field(ge=1)


class Losses(BaseModel, frozen=True):
    """What browsers asked the network for and what they lost, main frames and sub-resources alike.

    Two of them, or what inherits from them, add up to one.
    """

    pages: int = 0
    """Pages that were opened and stood."""
    requests: int = 0
    network_changed: int = 0
    """Requests lost to ERR_NETWORK_CHANGED."""
    other_losses: int = 0
    """Requests lost for any other reason; those that the page itself gave up (ERR_ABORTED) are no losses."""

    def __add__(self, other: Losses) -> Losses:
        return Losses(**{name: getattr(self, name) + getattr(other, name) for name in Losses.model_fields})


class Failure(BaseModel, frozen=True):
    """Why an attempt or a loop failed."""

    name: str
    """The error's class name, or Chrome's (`net::ERR_...`)."""
    message: str
    stage: str
    """The stage it happened in: one of the keys of stages_ms, or `task` between those of the task."""


class Result(Losses, frozen=True, allow_inf_nan=False):
    """One loop of one worker, good or failed. A reader leaves fields alone that it does not know."""

    version: int = VERSION
    """VERSION when it was written; a result without one is of version 1."""
    run: str
    worker: str
    loop: int = Field(ge=1)
    """Counts within the run."""
    claim: str | None = None
    """Of a job from the hub: the hub's word for this run of it (fleet.sockets.hub_api.Work)."""
    ok: bool
    """The outcome is good or empty."""
    outcome: Outcome = "failed"
    """A result without one is of version 0.1: good or failed, as `ok` says."""
    reason: str = ""
    """Why the outcome is not good, in one line."""
    status: int | None = None
    """The HTTP status of the page that stood last."""
    address: str | None = None
    """Where that page came from in the end."""
    redirects: tuple[str, ...] = ()
    """The addresses on the way there."""
    retry_after_seconds: float | None = Field(default=None, ge=0, le=MOST_REST_SECONDS)
    """How long a limited site asked to be left alone; the worker keeps to it."""
    crawl_delay_seconds: float | None = Field(default=None, ge=0, le=MOST_REST_SECONDS)
    """What robots.txt of the sites that were opened asks to leave between two visits."""
    notes: tuple[str, ...] = ()
    """What a person would have seen beside the page: dialogs, refused downloads, requests that hang."""
    started: AwareDatetime
    finished: AwareDatetime
    attempts: int
    failures: tuple[Failure, ...] = ()
    """Every attempt that failed, in order; a good loop may have some."""
    exit_server: str | None = None
    exit_address: Address | None = None
    """The leased exit's address."""
    seen_address: Address | None = None
    """The address the site saw, as the page itself showed it when the task can tell, else as proven."""
    lease: str | None = None
    stages_ms: dict[str, float]
    """Milliseconds by stage, in order: tunnel, proof, browser_start, load, search, screenshot, browser_end, hand_in."""
    handshake_ms: float | None = None
    rotate_ms: float | None = None
    """netctl's own time from request to answer, handshake included; None on a worker's first connect."""
    screenshot: str | None = None
    """File name beside the JSON."""
    more_screenshots: tuple[str, ...] = ()
    """Of the other pages that it came by, in their order, where a picture of each is asked for."""
    answer: dict[str, JsonValue] = Field(default_factory=dict)
    """What the task found."""
    answer_cut: bool = False
    """Whether texts or entries were left out of the answer, which was longer than a result may be."""

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
    """The run and the loop under which the result of a job's run is handed in."""
    return f"job-{job}", fence
