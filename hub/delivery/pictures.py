"""The pictures of a run, read where its worker has left them: what has another sum by now is none."""

from __future__ import annotations

import hashlib

from fleet.machine.foreign import Folder
from fleet.model import Paths, Worker
from fleet.outside.calls import Refused
from hub.delivery.outbox import Delivery
from hub.spooled import PICTURE_BYTES


class Pictures:
    """Those of a host's workers, and of who has left the fleet since: what a run brought home is still delivered."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def of(self, run: Delivery) -> dict[str, bytes]:
        """The pictures of RUN as they were when it ended, by name; raises Refused where they are not there, OSError."""
        files = {}
        for picture in run.pictures:
            files[picture.name] = self.one(run.worker or "", picture.name, picture.sha256)
        return files

    def one(self, owner: str, name: str, sha256: str) -> bytes:
        """The picture of that NAME and sum in the spool of OWNER; raises the same."""
        worker = Worker.named(owner)
        if worker is None:
            raise Refused(f"{owner!r}, who has its picture, is no worker")
        try:
            with Folder(self._paths.home(worker), self._paths.spool(worker).name) as spool:
                content = spool.read(name, PICTURE_BYTES)
        except FileNotFoundError:
            raise Refused(f"its picture {name} is not there any more") from None
        if hashlib.sha256(content).hexdigest() != sha256:
            raise Refused(f"its picture {name} is another one now")
        return content


def kind(name: str) -> str:
    """The media type of a picture's NAME."""
    return "image/webp" if name.endswith(".webp") else "image/png"
