"""Checks whether the values of a result are possible; its types are right, but its writer may be an attacker.

Every reader adds, subtracts and shows these values: what passes here cannot overflow and cannot flood a screen.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone

from fleet.result import MOST_PICTURES, Losses, Result

_MOST = 1_000_000_000
"""The largest count, and number of milliseconds (eleven days)."""
_MOST_LOOPS = 99_999_999_999
"""One digit less than a file name has room for, so that there is always a next loop."""
_SINCE, _UNTIL = datetime(1970, 1, 1, tzinfo=timezone.utc), datetime(2200, 1, 1, tzinfo=timezone.utc)
_MOST_STATUS = 999
_MOST_ENTRIES = 1000
"""The most failures, stages, redirects or notes."""
NAME_CHARACTERS = 300
_MESSAGE_CHARACTERS = 4000


def doubt(result: Result) -> str:
    """Why RESULT is impossible; empty when it is possible."""
    return next(_doubts(result), "")


def _doubts(result: Result) -> Iterator[str]:
    counts = [getattr(result, name) for name in Losses.model_fields]
    if not all(0 <= count <= _MOST for count in (*counts, result.version, result.attempts)):
        yield "a count is too large or negative"
    if result.loop > _MOST_LOOPS:
        yield "the loop's number is too large"
    if not all(_SINCE <= moment <= _UNTIL for moment in (result.started, result.finished)):
        yield "its time is not between 1970 and 2200"
    if not 0 <= (result.status or 0) <= _MOST_STATUS:
        yield "there is no such status"
    spent = (*result.stages_ms.values(), result.handshake_ms or 0, result.rotate_ms or 0)
    if not all(0 <= time <= _MOST for time in (*spent, result.retry_after_seconds or 0)):
        yield "a duration is too long or negative"
    if max(map(len, (result.stages_ms, result.failures, result.redirects, result.notes))) > _MOST_ENTRIES:
        yield f"more than {_MOST_ENTRIES} stages, failures, redirects or notes"
    pictures = (result.screenshot or "", *result.more_screenshots)
    maybe = (result.exit_server, result.lease, result.claim, *pictures[: MOST_PICTURES + 1])
    names = [result.worker, *(one or "" for one in maybe), *result.stages_ms]
    names += [part for failure in result.failures for part in (failure.name, failure.stage)]
    messages = [failure.message for failure in result.failures]
    messages += [result.reason, result.address or "", *result.redirects, *result.notes]
    if max(map(len, names)) > NAME_CHARACTERS or max(map(len, messages), default=0) > _MESSAGE_CHARACTERS:
        yield "a text in it is too long"
    if any("/" in one for one in pictures):
        yield "its screenshot is no name of a file"
    if len(pictures) > MOST_PICTURES:
        yield f"more than {MOST_PICTURES} pictures"
    try:
        json.dumps(result.answer, allow_nan=False)
    except ValueError:
        yield "its answer holds a number that JSON does not have"
