"""Pictures of runs for the page: those on this host, while their checksum is unchanged since the run's end."""

from __future__ import annotations

from collections.abc import Sequence

from fleet.db import Database
from fleet.model import Paths
from fleet.outside.calls import Refused
from hub.delivery.pictures import Pictures
from hub.queue import reading

_KINDS = {b"\x89PNG": "image/png", b"RIFF": "image/webp"}


class Shelf:
    """The pictures of a fleet's workers, former workers included."""

    def __init__(self, paths: Paths, database: Database) -> None:
        self._pictures, self._database = Pictures(paths), database

    def known(self, job: int, fence: int) -> tuple[str, Sequence[reading.Entry]]:
        """The worker of a run, and its pictures."""
        run = reading.runs_until(self._database, job, fence, 1, brief=True)
        return str(run[0]["worker"]) if run else "", reading.pictures_of(self._database, job, fence)

    def content(self, worker: str, pictures: Sequence[reading.Entry], name: str) -> tuple[bytes, str] | None:
        """The bytes of picture NAME and their media type; None if they have changed."""
        sums = {each["name"]: each["sha256"] for each in pictures}
        if name not in sums:
            return None
        try:
            content = self._pictures.one(worker, name, sums[name])
        except (Refused, OSError, ValueError):
            return None
        kind = _KINDS.get(content[:4])
        return (content, kind) if kind else None
