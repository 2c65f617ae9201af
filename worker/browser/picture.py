"""Takes pictures of the window, the whole page, or one element; PNG or WebP."""

from __future__ import annotations

import base64
from typing import Any

from fleet.errors import ElementMissing, PageFailed
from worker.browser.cdp import Refused
from worker.browser.interface import Box, Capture, Picture
from worker.browser.tab import Tab
from worker.browser.target import ANSWER_SECONDS

MOST_PIXELS = 16_383
"""The longest side. A surface of Chrome has 16,384 (a texture of the GPU process; beyond that the picture repeats), a
WebP one less."""
MOST_AREA = 32_000_000
"""The largest area; such a picture takes 128 MB while it is made."""
NOT_DRAWN = "NOT_DRAWN"
_TRIES = 3
_UNDRAWN_SECONDS = 6.0
"""The time-out for a page that Chrome may never draw, because a style sheet hangs or its document broke off."""


def take(
    tab: Tab, *, full: bool = False, selector: str | None = None, kind: Picture = "png", quality: int | None = None
) -> Capture:
    """A picture of the window's content; FULL: of the whole page; SELECTOR: of its first visible match."""
    order: dict[str, Any] = {"format": kind, **({"quality": quality} if quality else {})}
    tab.post("Page.bringToFront")  # Chrome does not draw a tab that another window covers
    for _ in range(_TRIES):
        whole = _box(tab, full, selector)
        box = _bounded(tab, whole)
        clip = dict(zip(("x", "y", "width", "height"), box, strict=True))
        beyond = {"clip": {**clip, "scale": 1}, "captureBeyondViewport": True} if full or selector else {}
        image = base64.b64decode(_captured(tab, {**order, **beyond}))
        if _box(tab, full, selector) == whole:
            break  # else it has moved meanwhile
    if box != whole:
        tab.documents.note(f"the picture has {box[2]} x {box[3]} of {whole[2]} x {whole[3]} pixels of the page")
    return Capture(image=image, box=box)


def _box(tab: Tab, full: bool, selector: str | None) -> Box:
    """The part of the page to take a picture of."""
    if selector:
        boxes = tab.ask("boxes", selector)
        if not boxes:
            raise ElementMissing(f"{tab.documents.current.url} shows no {selector!r} to take a picture of")
        left, top, width, height = map(int, boxes[0])
    elif full:
        size = tab.command("Page.getLayoutMetrics")["cssContentSize"]
        left, top, width, height = 0, 0, int(size["width"]), int(size["height"])
    else:
        left, top, width, height = map(int, tab.ask("view"))
    return left, top, max(1, width), max(1, height)


def _bounded(tab: Tab, box: Box) -> Box:
    """BOX, cut at its end to the size that a picture may have."""
    left, top, width, height = box
    scale = tab.settings.scale_factor
    width = min(width, int(MOST_PIXELS / scale))
    return left, top, width, min(height, int(MOST_PIXELS / scale), max(1, int(MOST_AREA / (width * scale * scale))))


def _captured(tab: Tab, order: dict[str, Any]) -> str:
    """The picture in base64; retried, because nothing can be captured while one document replaces another."""
    for _ in range(20):
        styles, load = tab.counter.styles(), tab.documents.current
        try:
            seconds = _UNDRAWN_SECONDS if styles or load.error else ANSWER_SECONDS
            return str(tab.command("Page.captureScreenshot", order, seconds=seconds)["data"])
        except PageFailed:
            if styles:
                raise PageFailed(tab.documents.current.url, f"{NOT_DRAWN} (it waits for {styles[:200]})") from None
            raise
        except Refused as error:
            last = error
            tab.pause(0.1)
    raise PageFailed(tab.documents.current.url, f"NO_PICTURE ({last})")
