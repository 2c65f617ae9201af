"""Answers an allocation: uploads its picture where the source wants it, then reports the result.

The report is built from a document with these places, which `hub.source.picture.fields` and `hub.source.result.body`
name:

/allocation          as the source sent it
/run                 as every target gets it (hub.delivery.targets.document): /run/answer/... is what the task found
/outcome             the source's word for the outcome
/picture             the address of the picture, null without one
/picture_or_outcome  the address of the picture of a good run; the word of any other
/file                the name of the picture's file, null without one
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from pydantic import JsonValue

from fleet import visible
from fleet.outside.calls import Later, Refused, Web
from fleet.outside.pointers import built, found
from fleet.settings.source import SourcePictureSettings, SourceSettings
from hub.delivery import mapping
from hub.delivery.outbox import Delivery
from hub.delivery.pictures import Pictures
from hub.delivery.sending import Do
from hub.delivery.targets import document as told
from hub.source.asking import NO_CONTENT
from hub.source.journal import Journal


class Answering:
    """Answers the allocations of SOURCE."""

    def __init__(self, source: SourceSettings, web: Web, pictures: Pictures, journal: Journal, do: Do) -> None:
        self._source, self._web, self._pictures, self._journal, self._do = source, web, pictures, journal, do

    async def carry(self, run: Delivery) -> JsonValue:
        """Answer the allocation of RUN; returns what the source answered. Raises Later or Refused."""
        allocation = await self._do(lambda: self._journal.allocation(run.job))
        if allocation is None:
            return None  # answered already, before the hub died
        name, said = allocation
        try:
            address = await self._put(run, name, said)
        except Refused as error:  # a picture that is lost for good is reported as a failure
            words = "; ".join(filter(None, (run.error, str(error))))
            run, address = replace(run, outcome="failed", error=words), None
        values = self._known(run, said, address)
        result = self._source.result
        body = built((place, found(values, pointer)) for place, pointer in result.body.items())
        answer = await self._web.ask(
            result.method,
            _of(result.url, name),
            quote(name),
            content=json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        says = self._source.success or self._source.success_is is not None
        if answer.is_new and answer.status != NO_CONTENT and says:
            mapping.document(answer, self._source)
        await self._do(lambda: self._journal.answered(run.job))
        return {"status": answer.status, "body": answer.body[:16_384]}

    async def _put(self, run: Delivery, name: str, said: JsonValue) -> str | None:
        """Upload the picture of RUN; returns its address. Raises Later, Refused."""
        settings = self._source.picture
        if settings is None or not run.pictures:
            return None
        picture = run.pictures[0]
        key = (run.job, run.fence, picture.name)
        if known := await self._do(lambda: self._journal.address(*key)):
            return known
        try:
            files = await asyncio.to_thread(self._pictures.of, run)
        except OSError as error:
            raise Later(visible.line(f"{type(error).__name__}: {error}")[:500]) from None
        address = await self._sent(settings, run, name, said, files[picture.name])
        await self._do(lambda: self._journal.put(*key, address))
        return address

    async def _sent(
        self, settings: SourcePictureSettings, run: Delivery, name: str, said: JsonValue, content: bytes
    ) -> str:
        file = run.pictures[0].name
        form = mapping.parts(settings, self._known(run, said, None), (file, content))
        answer = await self._web.ask("POST", _of(settings.url, name), f"{quote(name)}/{quote(file)}", files=form)
        return mapping.address(mapping.document(answer, self._source), settings.address)

    def _known(self, run: Delivery, said: JsonValue, address: str | None) -> JsonValue:
        words: Mapping[Any, str] = self._source.words
        word = words.get(run.outcome, run.outcome)
        return {
            "allocation": said,
            "run": told(run),
            "outcome": word,
            "picture": address,
            "picture_or_outcome": address if address and run.outcome == "good" else word,
            "file": run.pictures[0].name if run.pictures else None,
        }


def _of(url: str, name: str) -> str:
    return url.replace("{id}", quote(name, safe=""))
