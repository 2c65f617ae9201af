"""Pictures of the page: the window, the whole page, or one element of it; PNG or WebP."""

from __future__ import annotations

import base64
from typing import Any

from fleet.errors import ElementMissing, PageFailed
from worker.browser.cdp import Refused
from worker.browser.interface import Picture
from worker.browser.tab import Tab

MOST_PIXELS = 16_384
"""Chrome's limit for one side of a surface (a texture of the GPU process); it repeats the picture beyond."""


def take(tab: Tab, *, full: bool = False, selector: str | None = None, kind: Picture = "png") -> bytes:
    """The window's content; FULL: the whole page; SELECTOR: its first visible match."""
    order: dict[str, Any] = {"format": kind}
    if selector:
        boxes = tab.ask("boxes", selector)
        if not boxes:
            raise ElementMissing(f"{tab.documents.current.url} shows no {selector!r} to take a picture of")
        order |= _clip(tab, *boxes[0])
    elif full:
        size = tab.command("Page.getLayoutMetrics")["cssContentSize"]
        order |= _clip(tab, 0, 0, int(size["width"]), int(size["height"]))
    return base64.b64decode(_captured(tab, order))


def _captured(tab: Tab, order: dict[str, Any]) -> str:
    """While one document replaces another there is nothing to be taken a picture of, for a moment."""
    for _ in range(20):
        try:
            return str(tab.command("Page.captureScreenshot", order)["data"])
        except Refused as error:
            last = error
            tab.pause(0.1)
    raise PageFailed(tab.documents.current.url, f"NO_PICTURE ({last})")


def _clip(tab: Tab, x: int, y: int, width: int, height: int) -> dict[str, Any]:
    if max(width, height) > MOST_PIXELS:
        tab.documents.note(f"the picture ends after {MOST_PIXELS} of {max(width, height)} pixels")
    clip = {"x": x, "y": y, "width": min(width, MOST_PIXELS), "height": min(height, MOST_PIXELS), "scale": 1}
    return {"clip": clip, "captureBeyondViewport": True}
