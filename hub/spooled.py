"""Reads the end of a job's run from the result that its worker stored.

The file may contain anything, and only the careful reader reads it. Its content is the worker's claim, except that it
is the result of this run: for that, file, worker and claim must agree.
"""

from __future__ import annotations

import errno
import hashlib
from dataclasses import dataclass

import tenacity
from pydantic import JsonValue

from fleet import visible
from fleet.errors import FleetError
from fleet.machine.foreign import Folder
from fleet.model import Paths, Worker
from fleet.outcomes import Ending
from fleet.plausible import NAME_CHARACTERS
from fleet.result import Result, of_job
from fleet.spool import read_result
from hub.queue.values import Finished, Picture

PICTURE_BYTES = 64 << 20
"""The largest picture, and all pictures of a run together."""
_FAILURES = 20
_OWN_WANT = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
_PATIENCE_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A job that a worker has."""

    job: int
    fence: int
    claim: str


def _is_our_own(error: BaseException) -> bool:
    """Whether the hub itself lacks something, such as descriptors, so that no file is the cause."""
    found = error if isinstance(error, OSError) else error.__cause__
    return isinstance(found, OSError) and found.errno in _OWN_WANT


_patient = tenacity.retry(
    retry=tenacity.retry_if_exception(_is_our_own),
    wait=tenacity.wait_fixed(0.2),
    stop=tenacity.stop_after_delay(_PATIENCE_SECONDS),
    reraise=True,
)


def end_of(paths: Paths, worker: Worker, held: Held, *, promised: bool) -> Finished:
    """The end of the run of WORKER, from its result; without one it is lost, or failed if a result was
    PROMISED.
    """
    run, loop = of_job(held.job, held.fence)
    try:
        result = _patient(read_result)(paths.spool(worker) / f"{run}-{loop:06d}.json", worker.name)
        if result.claim != held.claim:
            raise FleetError("the result in its spool belongs to a job of another queue")
    except FleetError as error:
        outcome: Ending = "failed" if promised else "lost"
        return Finished(job=held.job, fence=held.fence, outcome=outcome, error=visible.line(error.message))
    return _finished(paths, worker, held, result)


def _finished(paths: Paths, worker: Worker, held: Held, result: Result) -> Finished:
    pictures, trouble = _pictures(paths, worker, result)
    said = result.model_copy(update={"failures": result.failures[:_FAILURES]})
    details: dict[str, JsonValue] = said.model_dump(mode="json", exclude={"answer", "run", "loop", "claim"})
    words = [] if result.outcome == "good" else [visible.line(result.reason)]
    common = {
        "job": held.job,
        "fence": held.fence,
        "outcome": result.outcome,
        "wait_seconds": result.retry_after_seconds if result.outcome == "limited" else None,
        "crawl_delay_seconds": result.crawl_delay_seconds,
        "exit": visible.line(result.exit_server or "")[:NAME_CHARACTERS] or None,
        "error": "; ".join([*words, *trouble]) or None,
        "pictures": pictures,
    }
    try:
        return Finished(**common, answer=result.answer, details=details)  # type: ignore[arg-type]
    except ValueError:  # in the database's form its JSON is too long
        return Finished(**common, details={"answer_cut": True})  # type: ignore[arg-type]


def _pictures(paths: Paths, worker: Worker, result: Result) -> tuple[tuple[Picture, ...], list[str]]:
    """The pictures of RESULT, and what is wrong with one that cannot be read."""
    found, trouble, room = list[Picture](), list[str](), PICTURE_BYTES
    for name in dict.fromkeys(filter(None, (result.screenshot, *result.more_screenshots))):
        try:
            content = _patient(picture)(paths, worker, name, room)
        except (OSError, ValueError) as error:
            trouble = [f"its picture cannot be read: {visible.line(str(error))[:NAME_CHARACTERS]}"]
        else:
            room -= len(content)
            found.append(Picture(name=name, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content)))
    return tuple(found), trouble


def picture(paths: Paths, worker: Worker, name: str, most_bytes: int = PICTURE_BYTES) -> bytes:
    """What is in the picture NAME of WORKER's spool. Raises OSError, ValueError."""
    with Folder(paths.home(worker), paths.spool(worker).name) as spool:
        return spool.read(name, most_bytes)
