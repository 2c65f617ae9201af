"""The pictures of a run, read from the worker's spool; one whose checksum has changed is refused."""

from __future__ import annotations

import hashlib

from fleet.model import Paths, Worker
from fleet.outside.calls import Refused
from hub import spooled
from hub.delivery.outbox import Delivery


class Pictures:
    """The pictures of a host's workers, former workers included: their results are still delivered."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def of(self, run: Delivery) -> dict[str, bytes]:
        """The pictures of RUN as at its end, by name; raises Refused if one is missing or changed, OSError."""
        files = {}
        for picture in run.pictures:
            files[picture.name] = self.one(run.worker or "", picture.name, picture.sha256)
        return files

    def one(self, owner: str, name: str, sha256: str) -> bytes:
        """The picture with that NAME and checksum in the spool of OWNER; raises the same."""
        worker = Worker.named(owner)
        if worker is None:
            raise Refused(f"its picture belongs to {owner!r}, which is not a worker")
        try:
            content = spooled.picture(self._paths, worker, name)
        except FileNotFoundError:
            raise Refused(f"its picture {name} no longer exists") from None
        if hashlib.sha256(content).hexdigest() != sha256:
            raise Refused(f"its picture {name} has changed since its run ended")
        return content


def kind(name: str) -> str:
    """The media type of a file of a run, by its NAME."""
    if name.endswith(".json"):
        return "application/json"
    return "image/webp" if name.endswith(".webp") else "image/png"
