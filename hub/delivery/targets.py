"""Sends a run to a target: its files to a folder, to a bucket, or over HTTP. Sent again, a run has the same name."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from pydantic import JsonValue

from fleet import visible
from fleet.machine.files import write_durably
from fleet.model import Fleet
from fleet.outside.calls import Answer, Later, Web, form
from fleet.result import of_job
from fleet.settings.hub import TargetFormSettings, TargetSettings
from hub.delivery import mapping
from hub.delivery.buckets import Bucket
from hub.delivery.outbox import Delivery
from hub.delivery.pictures import Pictures, kind
from hub.delivery.sending import Carry
from hub.delivery.signing import secret_of, signed
from hub.queue.values import with_times

_KEPT = 16_384


class Carrier:
    """Carries runs and their PICTURES to the target NAME. Raises ConfigurationError for bad secret files."""

    def __init__(self, name: str, target: TargetSettings, pictures: Pictures) -> None:
        self._target, self._pictures = target, pictures
        self._web = Web(f"hub.targets.{name}", target)
        self._secret = secret_of(f"hub.targets.{name}.secret_file", target.secret_file)
        self._bucket = Bucket(name, target) if target.url.startswith("s3:") else None

    async def carry(self, run: Delivery) -> JsonValue:
        """Deliver RUN; what the target answered. Raises Later or Refused."""
        parts = urlsplit(self._target.url)
        try:
            files = await asyncio.to_thread(self._files, run)
            if self._bucket is not None:
                folder = unquote(urlsplit(_address(self._target, run, "")).path).strip("/")
                await self._bucket.put({f"{folder}/{name}".strip("/"): content for name, content in files.items()})
                return None
            if parts.scheme != "file":
                return await self._send(run, files)
            await asyncio.to_thread(_into_folder, Path(unquote(parts.path)), files)
        except OSError as error:
            raise Later(visible.line(f"{type(error).__name__}: {error}")[:500]) from None
        return None

    async def _send(self, run: Delivery, files: Mapping[str, bytes]) -> JsonValue:
        once = f"{run.job}.{run.fence}.{run.began_at!r}"
        if self._target.method == "PUT":
            for name, content in files.items():
                # Each file is a message with its own id, so a target that drops repeated ids still takes all files.
                await self._ask(_address(self._target, run, name), f"{once}.{name}", content, kind(name))
            return None
        if self._target.form is not None:
            return await self._send_form(self._target.form, run, files, once)
        *pictures, (_, text) = files.items()
        # The form always has the same structure, also without a picture.
        parts: list[tuple[str, Any]] = [("run", (None, text))]
        parts += [("picture", (name, content, kind(name))) for name, content in pictures]
        answer = await self._ask(_address(self._target, run, ""), once, *form(parts))
        return {"status": answer.status, "body": answer.body[:_KEPT]}

    async def _send_form(
        self, form_wanted: TargetFormSettings, run: Delivery, files: Mapping[str, bytes], once: str
    ) -> JsonValue:
        *pictures, _ = files.items()
        shown = pictures[0] if pictures else None
        values: JsonValue = {"run": document(run), "outcome": run.outcome, "file": shown[0] if shown else None}
        parts = mapping.parts(form_wanted, values, shown)
        answer = await self._ask(_address(self._target, run, ""), once, *form(parts))
        told: dict[str, JsonValue] = {"status": answer.status, "body": answer.body[:_KEPT]}
        if shown and form_wanted.address and answer.is_new:  # a target that already has it need not give the address
            told["address"] = mapping.address(mapping.document(answer, self._target), form_wanted.address)
        return told

    async def _ask(self, url: str, once: str, body: bytes, media: str) -> Answer:
        headers = {"content-type": media, **(signed(once, body, self._secret) if self._secret else {})}
        answer = await self._web.ask(self._target.method, url, once, content=body, headers=headers)
        if self._target.success_is is not None and answer.is_new:
            mapping.document(answer, self._target)
        elif answer.is_new:  # a target need not answer in JSON
            with contextlib.suppress(ValueError):
                mapping.refuse_failure(answer.json(), self._target)
        return answer

    def _files(self, run: Delivery) -> dict[str, bytes]:
        """The run's pictures, and, last, its JSON."""
        stem, loop = of_job(run.job, run.fence)
        text = json.dumps(document(run), ensure_ascii=False)
        return {**self._pictures.of(run), f"{stem}-{loop:06d}.json": text.encode(errors="backslashreplace")}


def carriers_of(fleet: Fleet, pictures: Pictures) -> dict[str, Carry]:
    """The carrier of each target of FLEET, by its name."""
    return {name: Carrier(name, target, pictures).carry for name, target in fleet.hub.targets.items()}


def document(run: Delivery) -> dict[str, JsonValue]:
    """The JSON that a target gets for RUN."""
    told = {name: value for name, value in asdict(run).items() if name not in ("id", "target", "tries")}
    return with_times({**told, "pictures": [*told["pictures"]]})


def _into_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write FILES, the JSON last: where it is, the run is complete."""
    for name, content in files.items():
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is not a folder")  # never created: its disk may not be mounted
        write_durably(folder / name, content, 0o640)


def _address(target: TargetSettings, run: Delivery, name: str) -> str:
    words = {"{job}": str(run.job), "{fence}": str(run.fence), "{name}": quote(name, safe="")}
    url = target.url
    for word, value in words.items():
        url = url.replace(word, value)
    return url
