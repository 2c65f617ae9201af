"""The result of one loop, as it lies in a worker's spool and as every reader sees it.

A finished loop is two files in the spool: `RUN-LOOP.json` (a Result) and, unless it failed before
the page stood, `RUN-LOOP.png`. Both are written to a temporary name, synced and renamed, the JSON
last: whoever sees the JSON has the whole result.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from fleet.errors import FleetError
from fleet.wire import Address

_RESULT_BYTES = 4 << 20


class RunOrder(BaseModel):
    """What `fleet run` asks of the workers, in `run.json` of the run folder; absent: loop for ever."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    run: str = Field(pattern=r"^[a-z0-9-]{1,40}$")
    loops: int = Field(ge=1)


class Failure(BaseModel):
    """Why an attempt or a loop failed."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    """The error's class name, or Chrome's (`net::ERR_...`)."""
    message: str
    stage: str
    """The stage it happened in, one of the keys of stages_ms."""


class Result(BaseModel):
    """One loop of one worker, good or failed."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    run: str
    worker: str
    loop: int = Field(ge=1)
    """Counts within the run."""
    ok: bool
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
    pages: int = 0
    requests: int = 0
    """Requests the browser made, main frames and sub-resources."""
    network_changed: int = 0
    """Requests lost to ERR_NETWORK_CHANGED, counted from BiDi fetch errors."""
    other_losses: int = 0
    """Requests that failed for any other reason."""
    screenshot: str | None = None
    """File name beside the JSON."""
    answer: dict[str, JsonValue] = Field(default_factory=dict)
    """What the task found."""

    @property
    def file_stem(self) -> str:
        return f"{self.run}-{self.loop:06d}"


def read_result(path: Path) -> Result:
    """The result in PATH; raises FleetError when it holds none.

    A spool belongs to a worker, and so to whatever took its browser over, while root reads it: links,
    pipes and endless files are refused.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise FleetError(f"{path} is no ordinary file")
            return Result.model_validate_json(file.read(_RESULT_BYTES))
    except (OSError, ValidationError) as error:
        raise FleetError(f"{path} holds no result") from error


def read_spool(folder: Path, run: str | None = None) -> Iterator[Result]:
    """The results in FOLDER, of one run or of all, oldest loop first; none when there is no folder."""
    for path in sorted(folder.glob(f"{run or '*'}-*.json")):
        yield read_result(path)


def write_durably(path: Path, content: bytes) -> None:
    """PATH holds CONTENT after this returns, also after a power cut; never half of it."""
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
