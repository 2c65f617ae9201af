"""Rules about pictures, on both engines: pictures that a page has made, looked at where that harms nobody."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from PIL import Image

from fleet.model import Fleet, Paths
from fleet.settings.alerts import AlertSettings, AlertTargetSettings
from hub.alerts.comparing import Comparing, compared
from hub.alerts.recording import CARRIER, LOOKER, recorder
from hub.alerts.telling import Teller
from hub.delivery.outbox import Outbox
from hub.delivery.outbox import recorder as sending
from hub.delivery.pictures import Pictures
from hub.delivery.sending import Sender
from hub.queue.repeat import Interval
from hub.queue.store import Store
from hub.queue.values import Picture
from tests.programs.owner import Server
from tests.queues import FREE, Queue, ending, jobs

T = TypeVar("T")
CHECKOUT = Path(__file__).resolve().parents[2]
SIZE = (200, 100)
FLEET = Fleet.model_validate(
    {"workers": {"count": 1}, "dns": {"resolvers": ["198.18.0.53"]}, "egress": {"urls": ["https://a.example/ip"]}}
)


def png(*boxes: tuple[int, int, int, int], size: tuple[int, int] = SIZE, kind: str = "PNG", tone: int = 255) -> bytes:
    """A white page with red BOXES (left, top, right, bottom)."""
    picture, kept = Image.new("RGB", size, (tone, tone, tone)), io.BytesIO()
    for box in boxes:
        picture.paste((250, 0, 0), box)
    picture.save(kept, kind, lossless=True)
    return kept.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of few bytes and so many pixels."""
    chunks = [b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\1\0\0\0\0"]
    chunks += [b"IDAT" + zlib.compress(bytes((width // 8 + 1) * 1000)), b"IEND"]
    parts = (len(one[4:]).to_bytes(4, "big") + one + zlib.crc32(one).to_bytes(4, "big") for one in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def rule(**more: Any) -> AlertSettings:
    """More than 5 % is another picture."""
    return AlertSettings.model_validate({"when": "picture", "than": 5, "targets": ["hook"], **more})


PAGE, BOX = png(), (0, 0, 100, 50)
OTHER = png(BOX)


@pytest.mark.parametrize(
    ("before", "after", "masks", "percent"),
    [
        (PAGE, PAGE, (), 0),
        (PAGE, OTHER, (), 25),
        (OTHER, png(BOX, kind="WEBP"), (), 0),
        (PAGE, OTHER, ((0, 0, 100, 50),), 0),
        (PAGE, OTHER, ((0, 0, 50, 50),), 100 * 2500 / 17500),
        (PAGE, png(tone=240), (), 0),
        (PAGE, png(size=(200, 125)), (), 20),
        (PAGE, png(size=(200, 1000)), ((0, 100, 200, 900),), 0),
    ],
)
def test_what_differs_outside_masks(before: bytes, after: bytes, masks: Any, percent: float) -> None:
    """Planted inside a mask nothing differs, outside it does; nor does the faint edge of a letter."""
    found, why = asyncio.run(compared(before, after, rule(masks=masks)))
    assert not why and found == pytest.approx(percent), (found, why)


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (b"", "neither PNG nor WebP"),
        (png(kind="GIF"), "neither PNG nor WebP"),
        (OTHER[:-40], ""),
        (OTHER[:60] + b"\xff" * 9 + OTHER[69:], ""),
        (bomb(40_000, 40_000), "1600000000 pixels"),
        (bomb(7_000, 7_000), "7000 x 7000 pixels"),
    ],
)
def test_what_cannot_be_read_is_said(picture: bytes, words: str) -> None:
    """Whichever of both it is, it is no picture without a difference."""
    for pair in ((PAGE, picture), (picture, PAGE)):
        found, why = asyncio.run(compared(*pair, rule()))
        assert found is None and why and words in why, (found, why)


CONFINED = """
import json, os, socket, sys
sys.path.insert(0, sys.argv[1])
from hub.alerts import difference

def refused():
    count, forked = 0, lambda: os.fork() or os._exit(0)
    for do in (lambda: open("/dev/null"), socket.socket, lambda: os.kill(os.getpid(), 0), forked):
        try:
            do()
        except PermissionError:
            count += 1
    return count

before = refused()
difference.confine()
os.write(1, json.dumps([before, refused()]).encode())
"""


def test_who_decodes_can_do_nothing_else() -> None:
    """No file, no socket, no signal, no process: before it gives that up it can (positive control)."""
    done = subprocess.run([sys.executable, "-c", CONFINED, str(CHECKOUT)], capture_output=True, text=True, check=False)
    assert done.stdout == "[0, 4]", done


class Host:
    """A host with a watch, a rule about its pictures, and who is told."""

    def __init__(self, queue: Queue, root: Path, hook: Server, **more: Any) -> None:
        self.queue, self.host, self.rules = queue, queue.hub("h1").host, {"look": rule(**more)}
        self.paths = Paths(root=root)
        self.spool = self.paths.spool(FLEET.members[0])
        self.spool.mkdir(parents=True)
        self.store = Store(queue.database, lambda: None, FREE, recorder(self.rules, "h1", sending("h1")))
        self.outbox = Outbox(queue.database, "h1")
        self.targets = {"hook": AlertTargetSettings(url=f"{hook.url}/hook", insecure=True)}
        self.hook = hook
        self.store.add(jobs("a", key="tea", repeat=Interval(60)))

    def run(self, content: bytes, exit: str = "kr", *, gone: bool = False) -> list[str]:
        """A run with a picture, which is GONE when it is looked at; what is told."""
        self.store.enlist(self.host, 600, version="0", settings="")
        (claimed,) = self.store.claim(self.host, [FLEET.members[0].name]).jobs
        name = f"{claimed.fence}.png"
        (self.spool / name).write_bytes(b"another" if gone else content)
        shown = Picture(name=name, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
        self.store.finish([ending(claimed, exit=exit, pictures=(shown,))])
        self.queue.ahead(61)
        before = len(self.hook.taken)
        asyncio.run(self.send())
        assert self.outbox.backlog() == []
        return [json.loads(body)["words"] for _, _, body in self.hook.taken[before:]]

    async def send(self) -> None:
        """Until nothing is left."""

        async def do(work: Callable[[], T]) -> T:
            return work()

        looking = Comparing(self.rules, "h1", Pictures(self.paths), self.queue.database, do)
        sender = Sender(self.outbox, {LOOKER: looking.carry, CARRIER: Teller(self.rules, self.targets).carry}, do)
        while (await sender.once())[0]:
            pass


def test_another_look_is_told(queue: Queue, tmp_path: Path, hook: Server) -> None:
    """Held against the last good picture of the same exit: once each time it is another one, twice in a row."""
    host = Host(queue, tmp_path, hook, times=2)
    told = [host.run(content) for content in (PAGE, OTHER, PAGE, OTHER, OTHER, OTHER, PAGE, PAGE)]
    words = "look: tea: picture differs by more than 5 %: 25.00 %"
    assert told == [[], [], [], [], [words], [], [], [words]]
    assert host.run(OTHER, "jp") == [], "an exit without a picture before has nothing to be held against"


def test_several_exits_have_to_agree(queue: Queue, tmp_path: Path, hook: Server) -> None:
    """One that is shown another page than all others convinces nobody."""
    host = Host(queue, tmp_path, hook, exits=2, of=3)
    shown = [(PAGE, "kr"), (PAGE, "jp"), (OTHER, "kr"), (OTHER, "kr"), (PAGE, "jp"), (OTHER, "kr"), (OTHER, "jp")]
    assert [len(host.run(*one)) for one in shown] == [0, 0, 0, 0, 0, 0, 1]


def test_a_picture_that_cannot_be_looked_at_is_told(queue: Queue, tmp_path: Path, hook: Server) -> None:
    """Once, until one can be again; the next is held against the last good one. One that was changed is none."""
    host = Host(queue, tmp_path, hook)
    words = "look: tea: a picture could not be compared; the hub's log says why (alert.picture_unread)"
    broken = PAGE[:-30]
    assert [host.run(one) for one in (broken, broken, PAGE, broken)] == [[words], [], [], [words]]
    assert len(host.run(OTHER)) == 1
    assert host.run(OTHER, gone=True) == [words] and host.run(OTHER) == []
