"""Which picture of a page is taken, and an item outlined in it: on the picture, never on the page."""

from __future__ import annotations

import contextlib
import io
from typing import Annotated

from pydantic import AfterValidator

from fleet.errors import PageFailed
from worker.browser.interface import Box, Browser

ELEMENT = "element:"
_PICTURES_SECONDS = 10.0
_EDGE, _ROOM, _COLOUR = 4, 6, (214, 0, 60)


def _shot(text: str) -> str:
    if text not in ("window", "full") and not (text.startswith(ELEMENT) and text != ELEMENT):
        raise ValueError(f"{text!r} is none of window, full, element:SELECTOR")
    return text


Shot = Annotated[str, AfterValidator(_shot)]


def shoot(browser: Browser, shot: str, *, mark: Box | None = None) -> bytes:
    """The picture that SHOT says, with an outline around MARK; the window is scrolled to it.

    Texts are read before the page's own pictures have come: these are waited for, as long as that helps.
    """
    with contextlib.suppress(PageFailed):
        browser.wait_loaded(seconds=_PICTURES_SECONDS)
    if shot.startswith(ELEMENT):
        return browser.screenshot(selector=shot.removeprefix(ELEMENT))
    if mark is None:
        return browser.screenshot(full=shot == "full")
    if shot == "full":
        return outlined(browser.screenshot(full=True), mark)
    left, top = browser.reveal(mark)
    return outlined(browser.screenshot(), (mark[0] - left, mark[1] - top, mark[2], mark[3]))


def outlined(png: bytes, box: Box) -> bytes:
    """PNG with a frame around BOX."""
    from PIL import Image, ImageDraw

    with Image.open(io.BytesIO(png)) as picture:
        drawn = picture.convert("RGB")
    left, top, width, height = box
    corners = (left - _ROOM, top - _ROOM, left + width + _ROOM, top + height + _ROOM)
    ImageDraw.Draw(drawn).rectangle(corners, outline=_COLOUR, width=_EDGE)
    made = io.BytesIO()
    drawn.save(made, "PNG")
    return made.getvalue()
