"""Pictures of the page: the window, the whole page, or one element of it; PNG or WebP."""

from __future__ import annotations

import base64
from typing import Any

from fleet.errors import ElementMissing, PageFailed
from worker.browser.cdp import Refused
from worker.browser.interface import Box, Capture, Picture
from worker.browser.tab import Tab
from worker.browser.target import ANSWER_SECONDS

MOST_PIXELS = 16_383
"""Of one side. A surface of Chrome's has 16,384 (a texture of the GPU process; it repeats the picture beyond), a WebP
one less."""
MOST_AREA = 32_000_000
"""Of a whole picture: 128 MB while it is made."""
NOT_DRAWN = "NOT_DRAWN"
_TRIES = 3
_UNDRAWN_SECONDS = 6.0
"""For a page that Chrome may never draw: a style sheet hangs, or its document broke off."""


def take(
    tab: Tab, *, full: bool = False, selector: str | None = None, kind: Picture = "png", quality: int | None = None
) -> Capture:
    """The window's content; FULL: the whole page; SELECTOR: its first visible match."""
    order: dict[str, Any] = {"format": kind, **({"quality": quality} if quality else {})}
    tab.press("Page.bringToFront", {})  # another window may lie over it: Chrome draws nothing then
    for _ in range(_TRIES):
        whole = _box(tab, full, selector)
        box = _bounded(tab, whole)
        clip = dict(zip(("x", "y", "width", "height"), box, strict=True))
        beyond = {"clip": {**clip, "scale": 1}, "captureBeyondViewport": True} if full or selector else {}
        image = base64.b64decode(_captured(tab, {**order, **beyond}))
        if _box(tab, full, selector) == whole:
            break  # else it has moved under the camera
    if box != whole:
        tab.documents.note(f"the picture has {box[2]} x {box[3]} of {whole[2]} x {whole[3]} pixels of the page")
    return Capture(image=image, box=box)


def _box(tab: Tab, full: bool, selector: str | None) -> Box:
    """What of the page is to be in the picture."""
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
    """As much of BOX as a picture may have: its end is cut."""
    left, top, width, height = box
    scale = tab.settings.scale_factor
    width = min(width, int(MOST_PIXELS / scale))
    return left, top, width, min(height, int(MOST_PIXELS / scale), max(1, int(MOST_AREA / (width * scale * scale))))


def _captured(tab: Tab, order: dict[str, Any]) -> str:
    """While one document replaces another there is nothing to be taken a picture of, for a moment."""
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
