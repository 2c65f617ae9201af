"""The values that go into the queue and come out of it: frozen, not rows.

They check themselves, and raise ValueError: many are written in one transaction, and one that the database refuses
would block the others for ever.
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone

from pydantic import JsonValue

from fleet.outcomes import Ending
from hub.queue.repeat import Interval, Repeat

LONGEST_NAME = 300
LONGEST_ARGUMENTS = 32_768
"""As JSON: they go to a worker in one frame."""
LONGEST_ANSWER = 4 << 20
LONGEST_ERROR = 20_000
MOST_ATTEMPTS = 100
MOST_AT_ONCE = 100_000
LONGEST_INTERVAL_SECONDS = 86_400.0
_LONGEST_BEAT_SECONDS = 10 * 366 * 86_400.0
_YEARS = range(1970, 9000)
"""The years in which a job may begin: lists cannot show a year beyond 9999. People write 2999 for "never"."""
_LAST = datetime.max.replace(microsecond=0, tzinfo=timezone.utc)
_LARGEST = 2**63 - 1
ANYWHERE = ""
"""The exit of a job that may use any."""


class Priority(enum.IntEnum):
    """Which of the jobs that can begin goes first, over all sites."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Work to do."""

    site: str
    task: str
    arguments: Mapping[str, JsonValue] = field(default_factory=dict)
    key: str | None = None
    """A name chosen by the caller: a job is added only once under it, done or not."""
    priority: Priority = Priority.NORMAL
    not_before: datetime | None = None
    repeat: Repeat | None = None
    attempts: int = 3
    exit: str = ANYWHERE
    """The exit it needs: the name of a region or of a server."""
    same_exit: bool = False
    """Later runs use the exit of the first one."""
    patience_seconds: float | None = None
    """After this time the last run is the answer: neither a failure nor `limited` is tried again, and the job
    is not set aside. None: no limit."""
    targets: tuple[str, ...] = ()
    """Who gets its answer, whatever the outcome: the run after which the job is not tried again (hub.delivery)."""

    def __post_init__(self) -> None:
        for name in ("site", "task"):
            check_name(name, getattr(self, name))
        if self.key is not None:
            check_name("key", self.key)
        if self.exit != ANYWHERE:
            check_name("exit", self.exit)
        if self.not_before is not None and self.not_before.tzinfo is None:
            raise ValueError(f"not_before: {self.not_before} has no time zone")
        if self.not_before is not None and self.not_before.year not in _YEARS:
            raise ValueError(f"not_before: {self.not_before} is not in the years {_YEARS[0]} to {_YEARS[-1]}")
        if isinstance(self.repeat, Interval) and self.repeat.seconds > _LONGEST_BEAT_SECONDS:
            raise ValueError(f"every: {self.repeat.seconds:g} s is more than ten years")
        if not 1 <= self.attempts <= MOST_ATTEMPTS:
            raise ValueError(f"attempts: {self.attempts} is not in 1 to {MOST_ATTEMPTS}")
        for target in self.targets:
            check_name("target", target)
        document(self.arguments, LONGEST_ARGUMENTS)


class Added(enum.Enum):
    """How a job was added."""

    NEW = "new"
    THERE = "there"
    """Its key is in the queue already."""
    DONE = "done"
    """Its key was in the queue before, and has left it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The number of an added job, and how it was added."""

    job: int
    added: Added


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A job that a worker has. JOB and FENCE together are the run."""

    job: int
    fence: int
    site: str
    task: str
    arguments: Mapping[str, JsonValue]
    exit: str
    worker: str
    began_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a hub got for its idle workers."""

    jobs: tuple[Claimed, ...]
    next_seconds: float | None
    """Seconds until the hub should ask again, unless it is rung before: 0 at once, None never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture of a run, stored on its host, with its checksum."""

    name: str
    sha256: str
    size_bytes: int

    def __post_init__(self) -> None:
        check_name("name", self.name)
        if not (len(self.sha256) == 64 and set(self.sha256) <= set("0123456789abcdef")):
            raise ValueError(f"sha256: {self.sha256[:70]!r} is not a checksum")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The end of a run, as its hub reports it."""

    job: int
    fence: int
    outcome: Ending
    exit: str | None = None
    """Its exit."""
    error: str | None = None
    answer: Mapping[str, JsonValue] | None = None
    details: Mapping[str, JsonValue] | None = None
    """What the worker reports beside its answer."""
    wait_seconds: float | None = None
    """The rest that the site asked for (Retry-After)."""
    crawl_delay_seconds: float | None = None
    """The Crawl-delay of its robots.txt; None: not read, or without one."""
    pictures: tuple[Picture, ...] = ()
    targets: tuple[str, ...] = ()
    """Who gets this run, whether or not it is the answer."""

    def __post_init__(self) -> None:
        for target in self.targets:
            check_name("target", target)
        if not (0 < self.job <= _LARGEST and 0 < self.fence <= _LARGEST):
            raise ValueError(f"{self.job}, {self.fence} is not a run")
        if self.exit is not None:
            check_name("exit", self.exit)
        for name in ("wait_seconds", "crawl_delay_seconds"):
            if (seconds := getattr(self, name)) is not None and not math.isfinite(seconds):
                raise ValueError(f"{name}: {seconds} is not a time")
        for told in (self.answer, self.details):
            if told is not None:
                document(told)


class Taken(enum.Enum):
    """How a reported end was taken."""

    EFFECTIVE = "effective"
    REPEATED = "repeated"
    """It was taken before: the first answer was lost."""
    STALE = "stale"
    """The job was taken from its host meanwhile. Nothing was changed."""


class Cancelled(enum.Enum):
    """What cancelling did to a job."""

    GONE = "gone"
    TOLD = "told"
    """It runs: its worker must stop, and the job ends with that run."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often a site may be asked."""

    interval_seconds: float = 1.0
    """The least time between the starts of two runs, over all hosts."""
    most: int = 2
    """Runs at one time, over all hosts."""

    def __post_init__(self) -> None:
        if not 0 <= self.interval_seconds <= LONGEST_INTERVAL_SECONDS:
            raise ValueError(f"interval_seconds: {self.interval_seconds} is not in 0 to {LONGEST_INTERVAL_SECONDS:g}")
        if not 1 <= self.most <= MOST_AT_ONCE:
            raise ValueError(f"most: {self.most} is not in 1 to {MOST_AT_ONCE}")


def document(values: Mapping[str, JsonValue], most: int = LONGEST_ANSWER) -> str:
    """VALUES as JSON of at most MOST characters; raises ValueError."""
    try:
        text = json.dumps(values, allow_nan=False)
    except (TypeError, RecursionError) as error:
        raise ValueError(f"is not JSON: {error}") from None
    if len(text) > most:
        raise ValueError(f"has {len(text)} characters as JSON, more than {most}")
    return text


def plain(text: str) -> str:
    """TEXT, from any source, in a form that every database accepts."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()[:LONGEST_ERROR]


def moment(seconds: float) -> datetime:
    """SECONDS since 1970 as a time; the calendar's last moment if it is beyond that."""
    return datetime.fromtimestamp(min(seconds, _LAST.timestamp()), timezone.utc)


def with_times(entry: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """ENTRY with its times (`..._at`) in ISO 8601."""
    return {
        name: moment(value).isoformat() if name.endswith("_at") and isinstance(value, int | float) else value
        for name, value in entry.items()
    }


def check_name(what: str, text: str) -> None:
    """Check that TEXT is a name; raises ValueError, which begins with WHAT."""
    if not (0 < len(text) <= LONGEST_NAME and text.isprintable()):
        raise ValueError(f"{what}: {text[:50]!r} is not a name of 1 to {LONGEST_NAME} printable characters")
