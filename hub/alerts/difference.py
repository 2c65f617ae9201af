"""How much one picture differs from another, in a separate process, because a page made the data that is decoded.

It runs as `launch.py hub.alerts.difference`, gets a line of JSON and two pictures on standard input, and answers with a
line of JSON. Before it decodes them it gives up every system call that it does not need to compute, and limits its
memory and its time.
"""

from __future__ import annotations

import errno
import io
import json
import resource
import sys
from collections.abc import Sequence
from typing import BinaryIO

import pyseccomp
from PIL import Image, ImageChops, PngImagePlugin, UnidentifiedImageError, WebPImagePlugin

MOST_PIXELS = 48_000_000
"""Of one picture: a page of 2560 x 16,000 is 41 million."""
LEAST = 24
"""Of 255, in red, green or blue: a smaller difference is the edge of a letter that was drawn again."""
_MEMORY_BYTES = 1 << 30
_SECONDS = 10
"""Of processor time."""
_ROWS = 512
_FORMATS = ("PNG", "WEBP")
_CALLS = (
    *("read", "write", "close", "lseek", "fstat", "newfstatat", "exit", "exit_group", "futex", "sched_yield"),
    *("mmap", "munmap", "mremap", "mprotect", "madvise", "brk", "getrandom", "clock_gettime", "getpid", "gettid"),
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall"),
)
Box = tuple[int, int, int, int]
"""Left, top, width and height in pixels."""


def confine() -> None:
    """Limit memory and time, and allow only the system calls of _CALLS; all others fail."""
    Image.preinit()  # loads the decoders: no file can be opened later
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
    rules = pyseccomp.SyscallFilter(pyseccomp.ERRNO(errno.EPERM))
    for call in _CALLS:
        rules.add_rule(pyseccomp.ALLOW, call)
    rules.load()


def difference(before: bytes, after: bytes, masks: Sequence[Box]) -> float:
    """Percent of pixels outside MASKS that differ; an area of only one picture differs. Raises ValueError, OSError."""
    old, new = _picture(before), _picture(after)
    width, height = max(old.width, new.width), max(old.height, new.height)
    shared = (min(old.width, new.width), min(old.height, new.height))
    looked_at = differing = 0
    for top in range(0, height, _ROWS):
        size = (width, min(_ROWS, height - top))
        outside, differs = Image.new("L", size, 255), Image.new("L", size, 255)
        for left, above, across, down in masks:
            outside.paste(0, (left, above - top, left + across, above - top + down))
        if top < shared[1]:
            part = (0, top, shared[0], min(top + _ROWS, shared[1]))
            red, green, blue = ImageChops.difference(old.crop(part), new.crop(part)).split()
            most = ImageChops.lighter(ImageChops.lighter(red, green), blue)
            differs.paste(most.point([0] * LEAST + [255] * (256 - LEAST)), (0, 0))
        looked_at += outside.histogram()[255]
        differing += ImageChops.darker(outside, differs).histogram()[255]
    if not looked_at:
        raise ValueError("the masks cover the whole picture")
    return 100 * differing / looked_at


def _picture(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content), formats=_FORMATS) as picture:
        if picture.width * picture.height > MOST_PIXELS:  # Pillow itself allows twice as many
            raise ValueError(f"has {picture.width} x {picture.height} pixels, more than {MOST_PIXELS}")
        made: Image.Image = picture.convert("RGB")
        return made


def main(given: BinaryIO, out: BinaryIO) -> None:
    """Answer one question."""
    assert PngImagePlugin and WebPImagePlugin, "loaded while files can be opened"
    asked = json.loads(given.readline())
    before, after = (given.read(size) for size in asked["sizes"])
    confine()
    try:
        answer: dict[str, object] = {"percent": difference(before, after, asked["masks"])}
    except UnidentifiedImageError:
        answer = {"error": "one of the pictures is neither PNG nor WebP"}
    except Exception as error:  # noqa: BLE001 - a decoder may raise anything
        answer = {"error": f"{type(error).__name__}: {error}"[:300]}
    out.write(json.dumps(answer).encode() + b"\n")
    out.flush()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
