"""One run to one target: its files into a folder, or over HTTP. What the target says decides: there, later, or never.

A target may be silent, slow, endless or lying: one deadline is over all of a request, and little of an answer is kept.
Nothing is followed anywhere. Told twice, a run has the same name: a target knows it by that.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import httpx
from pydantic import JsonValue

from fleet import VERSION, visible
from fleet.deadline import within
from fleet.errors import ConfigurationError
from fleet.files import write_durably
from fleet.foreign import Folder
from fleet.hub_settings import TargetSettings
from fleet.model import Fleet, Paths
from fleet.result import of_job
from hub.outbox import Delivery
from hub.spooled import PICTURE_BYTES

ANSWER_BYTES = 16_384
MOST_WAIT_SECONDS = 86_400.0
_FOR_GOOD = frozenset({400, 405, 406, 410, 411, 413, 414, 415, 422, 431, 451})
"""What the next try would not change; all else may be a key that is set, or a server that is put right."""
_ALREADY = frozenset({409, 412})


class Later(Exception):
    """It did not arrive, or nobody knows."""

    def __init__(self, why: str, wait_seconds: float = 0.0) -> None:
        super().__init__(why)
        self.wait_seconds = wait_seconds


class Refused(Exception):
    """The target does not take it, and would not the next time."""


class Carrier:
    """Carries runs to the targets of FLEET. Raises ConfigurationError for a file of headers that is none."""

    def __init__(self, fleet: Fleet, paths: Paths) -> None:
        self._members = {worker.name: worker for worker in fleet.members}
        self._paths = paths
        self._targets = {name: (one, _headers(name, one)) for name, one in fleet.hub.targets.items()}
        self._trust = ssl.create_default_context()

    async def carry(self, run: Delivery) -> JsonValue:
        """Deliver RUN; what the target answered. Raises Later or Refused."""
        if run.target not in self._targets:
            raise Refused(f"there is no target {run.target} in fleet.toml any more")
        target, headers = self._targets[run.target]
        try:
            files = await asyncio.to_thread(self._files, run)
            if urlsplit(target.url).scheme == "file":
                await asyncio.to_thread(_into_folder, Path(unquote(urlsplit(target.url).path)), files)
                return None
            return await within(target.timeout_seconds, self._send(target, headers, run, files))
        except asyncio.TimeoutError:
            raise Later(f"no whole answer within {target.timeout_seconds:g} s") from None
        except (OSError, httpx.HTTPError) as error:
            raise Later(visible.line(f"{type(error).__name__}: {error}")[:500]) from None

    def _files(self, run: Delivery) -> dict[str, bytes]:
        """The run's pictures as they were when it ended, and, last, its JSON."""
        files = {}
        for picture in run.pictures:
            worker = self._members.get(run.worker or "")
            if worker is None:
                raise Refused(f"{run.worker}, who has its picture, is no worker any more")
            try:
                with Folder(self._paths.home(worker), self._paths.spool(worker).name) as spool:
                    content = spool.read(picture.name, PICTURE_BYTES)
            except FileNotFoundError:
                raise Refused(f"its picture {picture.name} is not there any more") from None
            if hashlib.sha256(content).hexdigest() != picture.sha256:
                raise Refused(f"its picture {picture.name} is another one now")
            files[picture.name] = content
        stem, loop = of_job(run.job, run.fence)
        text = json.dumps(document(run), ensure_ascii=False)
        files[f"{stem}-{loop:06d}.json"] = text.encode(errors="backslashreplace")
        return files

    async def _send(
        self, target: TargetSettings, headers: Mapping[str, str], run: Delivery, files: Mapping[str, bytes]
    ) -> JsonValue:
        once = f"{run.job}.{run.fence}.{run.began_at!r}"
        named = {"user-agent": f"fleet/{VERSION}", "idempotency-key": once, **headers}
        seconds = target.timeout_seconds
        async with httpx.AsyncClient(verify=self._trust, headers=named, timeout=seconds, trust_env=False) as client:
            if target.method == "PUT":
                for name, content in files.items():
                    await _asked(client, client.build_request("PUT", _address(target, run, name), content=content))
                return None
            *pictures, (_, text) = files.items()
            form = client.build_request(
                "POST",
                _address(target, run, ""),
                data={"run": text.decode()},
                files=[("picture", (name, content, _kind(name))) for name, content in pictures] or None,
            )
            return await _asked(client, form)


def document(run: Delivery) -> dict[str, JsonValue]:
    """What a target is told of RUN."""
    return {
        "job": run.job,
        "fence": run.fence,
        "key": run.key,
        "site": run.site,
        "task": run.task,
        "arguments": dict(run.arguments),
        "outcome": run.outcome,
        "worker": run.worker,
        "exit": run.exit,
        "began_at": _told(run.began_at),
        "ended_at": _told(run.ended_at),
        "error": run.error,
        "answer": None if run.answer is None else dict(run.answer),
        "pictures": [asdict(picture) for picture in run.pictures],
    }


async def _asked(client: httpx.AsyncClient, request: httpx.Request) -> JsonValue:
    answer = await client.send(request, stream=True)
    try:
        body = bytearray()
        async for part in answer.aiter_raw():
            body += part
            if len(body) > ANSWER_BYTES:
                break
    finally:
        await answer.aclose()
    status = answer.status_code
    if answer.is_success or status in _ALREADY:
        return {"status": status, "body": body[:ANSWER_BYTES].decode(errors="replace").replace("\0", "")}
    words = f"answered with status {status}: {visible.line(body[:300].decode(errors='replace'))}"
    if status in _FOR_GOOD:
        raise Refused(words)
    raise Later(words, _wait(answer.headers.get("retry-after", "")))


def _wait(text: str) -> float:
    return min(float(text), MOST_WAIT_SECONDS) if text.isascii() and text.isdigit() and len(text) < 10 else 0.0


def _into_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """The JSON last: who sees it has all of the run."""
    for name, content in files.items():
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is no folder")  # a disk that is not mounted is not made up for
        write_durably(folder / name, content, 0o640)


def _address(target: TargetSettings, run: Delivery, name: str) -> str:
    words = {"{job}": str(run.job), "{fence}": str(run.fence), "{name}": quote(name, safe="")}
    url = target.url
    for word, value in words.items():
        url = url.replace(word, value)
    return url


def _kind(name: str) -> str:
    return "image/webp" if name.endswith(".webp") else "image/png"


def _told(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc).isoformat()


def _headers(name: str, target: TargetSettings) -> dict[str, str]:
    if not target.headers_file:
        return {}
    key = f"hub.targets.{name}.headers_file"
    try:
        text = Path(target.headers_file).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is no ASCII"
        raise ConfigurationError(f"{key}: {target.headers_file}: {why}", hint="the user fleet-hub reads it") from None
    lines = [line.partition(":") for line in text.splitlines() if line.strip()]
    found = {before.strip(): after.strip() for before, colon, after in lines if before.strip() and colon}
    if len(found) != len(lines):
        raise ConfigurationError(f"{key}: {target.headers_file} has a line that is no `Name: value`")
    return found
