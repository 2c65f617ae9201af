"""Takes the picture of a page, and draws on the picture, not on the page: the found item's outline, and masks."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from fleet.errors import PageFailed
from fleet.model import Settings
from fleet.result import MOST_PICTURES
from worker.browser.commands import Browser
from worker.browser.interface import Box, Capture, Picture
from worker.tasks.options import Selector, by, checked_selector

ELEMENT = "element:"
_PICTURES_SECONDS = 10.0
_TRIES = 3
_QUALITY = 80
_EDGE, _ROOM, _COLOUR, _MASK = 4, 6, (214, 0, 60), (96, 96, 96)


class ShotOptions(Settings):
    """`screenshot`: what to show, and how."""

    of: str = "window"
    """`window`, `full` or `element:SELECTOR`."""
    format: Literal["png", "webp"] = "png"
    quality: int = Field(default=_QUALITY, ge=1, le=100)
    """For WebP."""
    mask: tuple[Selector, ...] = ()
    """Parts to be hidden: grey in the picture, also in that of a failed loop."""
    each: bool = False
    """A picture of each page that the task opens, not only of the last; at most MOST_PICTURES."""

    @field_validator("of")
    @classmethod
    def _is_one_of_them(cls, text: str) -> str:
        if text.startswith(ELEMENT) and text != ELEMENT:
            checked_selector(text.removeprefix(ELEMENT))
        elif text not in ("window", "full"):
            raise ValueError(f"{text!r} is none of window, full, element:SELECTOR")
        return text

    @model_validator(mode="after")
    def _of_a_webp(self) -> ShotOptions:
        if "quality" in self.model_fields_set and self.format != "webp":
            raise ValueError('quality belongs to format = "webp"')
        return self


Shot = Annotated[ShotOptions, by("of", ShotOptions)]
WINDOW = ShotOptions()


class Album:
    """The picture of a visit and, with `each`, those of the other pages that were opened."""

    def __init__(self, browser: Browser, shot: ShotOptions) -> None:
        self._browser, self._shot = browser, shot
        self._taken: list[bytes] = []
        self._chosen: int | None = None

    def take(self, mark: Box | None = None) -> None:
        """Take the picture of the present page, with an outline around MARK."""
        self._taken = [*(self._taken if self._shot.each else ()), shoot(self._browser, self._shot, mark=mark)]
        self._chosen = len(self._taken) - 1

    def forget(self) -> None:
        """Drop the picture, because it shows another state of the page than the one that was read."""
        if self._chosen is not None:
            del self._taken[self._chosen]
            self._chosen = None

    def pass_by(self) -> None:
        """Take a picture of the present page, which is not the final one, if `each` is set."""
        if self._shot.each and len(self._taken) < MOST_PICTURES:
            self._taken.append(shoot(self._browser, self._shot))

    @property
    def picture(self) -> bytes | None:
        """The picture of the final page."""
        return None if self._chosen is None else self._taken[self._chosen]

    @property
    def others(self) -> tuple[bytes, ...]:
        """The pictures of the other pages, in order."""
        others = [one for number, one in enumerate(self._taken) if number != self._chosen]
        return tuple(others[: MOST_PICTURES - 1])


def shoot(browser: Browser, shot: ShotOptions, *, mark: Box | None = None) -> bytes:
    """Take the picture that SHOT describes, with an outline around MARK, to which the window is scrolled.

    It first waits for the page's own pictures, because texts are read before these have loaded.
    """
    with contextlib.suppress(PageFailed):
        browser.wait_loaded(seconds=_PICTURES_SECONDS)
    if mark and shot.of == "window":
        browser.reveal(mark)
    return snap(browser, shot, mark=mark)


def snap(browser: Browser, shot: ShotOptions, *, mark: Box | None = None) -> bytes:
    """The same without waiting or scrolling."""
    selector = shot.of.removeprefix(ELEMENT) if shot.of.startswith(ELEMENT) else None
    drawn = bool(mark or shot.mask)
    kind: Picture = "png" if drawn else shot.format
    quality = shot.quality if kind == "webp" else None
    for _ in range(_TRIES):
        before = _masked(browser, shot.mask)
        taken = browser.capture(full=shot.of == "full", selector=selector, kind=kind, quality=quality)
        after = _masked(browser, shot.mask)
        if before == after:
            break
    return _drawn(taken, mark, [*before, *after], shot) if drawn else taken.image


def _masked(browser: Browser, selectors: Sequence[str]) -> list[Box]:
    return [box for selector in selectors for box in browser.boxes(selector)]


def _drawn(taken: Capture, mark: Box | None, masks: Sequence[Box], shot: ShotOptions) -> bytes:
    """The picture with grey MASKS and a frame around MARK; both are places on the page."""
    from PIL import Image, ImageDraw

    with Image.open(io.BytesIO(taken.image)) as picture:
        made = picture.convert("RGB")
    pen, scale = ImageDraw.Draw(made), made.width / taken.box[2]
    for box in masks:
        if corners := _corners(box, taken.box, scale, made.size, room=1):
            pen.rectangle(corners, fill=_MASK)
    if mark and (corners := _corners(mark, taken.box, scale, made.size, room=_ROOM)):
        pen.rectangle(corners, outline=_COLOUR, width=round(_EDGE * scale) or 1)
    kept = io.BytesIO()
    if shot.format == "webp":
        made.save(kept, "WEBP", quality=shot.quality)
    else:
        made.save(kept, "PNG")
    return kept.getvalue()


def _corners(
    box: Box, shown: Box, scale: float, size: tuple[int, int], *, room: int
) -> tuple[float, float, float, float] | None:
    """The corners of BOX, with ROOM around it, in a picture of SIZE that shows the part SHOWN; None: outside."""
    left, top = (box[0] - shown[0]) * scale, (box[1] - shown[1]) * scale
    right, bottom = left + box[2] * scale, top + box[3] * scale
    if right <= 0 or bottom <= 0 or left >= size[0] or top >= size[1]:
        return None
    edge = room * scale
    return max(0, left - edge), max(0, top - edge), min(size[0] - 1, right + edge), min(size[1] - 1, bottom + edge)
