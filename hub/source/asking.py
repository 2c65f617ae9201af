"""Asks a source for work, as much as this host's workers can do, and adds it to the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from pydantic import JsonValue

from fleet import log
from fleet.backoff import back_off
from fleet.errors import DatabaseFailed
from fleet.model import Fleet
from fleet.outside.calls import Answer, Later, Refused, Web
from fleet.outside.pointers import built, found, merged
from fleet.settings.source import SourceSettings
from fleet.sockets.deadline import set_within
from hub import entering
from hub.declared import UNKNOWN, Declared
from hub.delivery.mapping import document
from hub.delivery.sending import Do
from hub.queue.values import Added, Job, check_name
from hub.source.journal import SOURCE, Journal

FIRST_SECONDS = 5.0
LONGEST_SECONDS = 300.0
NO_CONTENT = 204
_LONGEST_NAME = 200


class Allocation(NamedTuple):
    """A piece of work from a source."""

    name: str
    said: JsonValue


class Asking:
    """Asks for work until it is cancelled."""

    def __init__(
        self,
        fleet: Fleet,
        web: Web,
        journal: Journal,
        do: Do,
        is_full: Callable[[], bool],
        *,
        declared: Declared = UNKNOWN,
    ) -> None:
        """IS_FULL says whether no work may begin."""
        assert fleet.hub.source
        self._fleet, self._source, self._web, self._journal, self._do = fleet, fleet.hub.source, web, journal, do
        self._is_full, self._declared = is_full, declared
        self._log = log.get("hub")
        self._failures = 0
        self.rung = asyncio.Event()
        """Set it when a run has ended: there may be room for more."""

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            self.rung.clear()
            if seconds := await self.once():
                await set_within(seconds, self.rung)

    async def once(self) -> float:
        """Ask for one allocation if there is room; returns seconds until the next question."""
        if self._is_full():
            return self._source.pause_seconds
        try:
            if await self._do(lambda: self._journal.room(self._source.most or self._fleet.workers.count)) <= 0:
                return self._source.pause_seconds
            seconds = await self._asked()
        except (Later, Refused) as error:
            self._failures += 1
            self._log.warning("source.failed", reason=str(error), failures=self._failures)
            asked = error.wait_seconds if isinstance(error, Later) else 0.0
            return max(asked, back_off(self._failures, FIRST_SECONDS, LONGEST_SECONDS))
        except DatabaseFailed as error:  # the same question is asked again, and the source recognises it
            self._log.error("database.failed", error=error.message)
            return FIRST_SECONDS
        return seconds

    async def _asked(self) -> float:
        word = await self._do(self._journal.ask)
        answer = await self._web.ask("GET", self._source.url, word)
        allocation = read(answer, self._source)
        if allocation is None:
            self._failures = 0
            await self._do(self._journal.nothing)
            return self._source.pause_seconds
        job, trouble = made(allocation, self._source, self._fleet, self._declared)
        added = await self._do(lambda: self._journal.take(*allocation, job, trouble))
        if trouble is not None:
            # Settings that fit no allocation would use up the whole queue: wait longer after each.
            self._log.error("source.cannot_be_done", id=allocation.name, reason=trouble)
            self._failures += 1
            return back_off(self._failures, FIRST_SECONDS, LONGEST_SECONDS)
        self._failures = 0
        self._log.info("source.taken", id=allocation.name, added=added.value)
        # A source that repeats an allocation has no other.
        return 0.0 if added is Added.NEW else self._source.pause_seconds


def read(answer: Answer, source: SourceSettings) -> Allocation | None:
    """The allocation in ANSWER, None: there is no work. Raises Later if it is not a valid one.

    An empty answer with another status than 204 may be a truncated one: the question stays open.
    """
    if answer.status == NO_CONTENT:
        return None
    said = document(answer, source)
    name = found(said, source.id)
    if name is None or name == "":
        return None
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise Later(f"the allocation's {source.id} is neither text nor a whole number")
    text = str(name)
    try:
        check_name("id", text[: _LONGEST_NAME + 1])
    except ValueError as error:
        raise Later(f"the allocation's {error}") from None
    if len(text) > _LONGEST_NAME:
        raise Later(f"the allocation's {source.id} has more than {_LONGEST_NAME} characters")
    return Allocation(text, said)


def made(
    allocation: Allocation, source: SourceSettings, fleet: Fleet, declared: Declared = UNKNOWN
) -> tuple[Job, str | None]:
    """The job for ALLOCATION, and why it cannot be done, if that is certain."""
    key, targets = f"source:{allocation.name}", (SOURCE, *fleet.hub.targets)
    usual: dict[str, JsonValue] = {"key": key, "attempts": source.attempts}
    patience = {"patience_seconds": source.wait_seconds}
    try:
        values = ((name, found(allocation.said, pointer)) for name, pointer in source.arguments.items())
        given = built((name, value) for name, value in values if value is not None)
        if source.task in ("", fleet.task.run):
            given = merged(fleet.task.options, given)
        said = {"task": source.task, "site": source.site, "arguments": given}
        return entering.job({**said, **usual}, fleet.task, targets, declared, **patience), None
    except ValueError as error:
        return Job(site=SOURCE, task=source.task or fleet.task.run, key=key, targets=targets), str(error)
