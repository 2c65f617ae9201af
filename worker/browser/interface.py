"""The values that go into a browser and come out of it. commands.py has what a task may do with one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fleet.model import BrowserSettings
from fleet.numbers import BrowserPorts

MOST_ITEMS = 1000
"""The most matches that are read at once."""

Condition = Literal["load", "dom", "quiet"]
"""When a page counts as loaded; worker/browser/readiness.py explains each."""
State = Literal["present", "visible", "gone", "stable", "filled"]
"""The states of a selector that can be awaited."""
Picture = Literal["png", "webp"]
Raw = dict[str, "list[str | None]"]
"""Picked values by name, one for each match; None: the match does not have the attribute."""
Box = tuple[int, int, int, int]
"""Left, top, width and height on the page, in CSS pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """What to take from the first visible match of `select`, from `every` one, or from `meta` elements of a name."""

    select: str = ":scope"
    attribute: str = ""
    html: bool = False
    valid: bool = False
    """Only the text that is not struck through."""
    figures: bool = False
    """It is read as a number: raised digits and pictures of digits are marked (numerals.py)."""
    every: bool = False
    meta: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One item of a list."""

    fields: Raw
    advertisement: bool
    box: Box
    words: str
    """A hash of its text."""
    key: str
    """Distinguishes two items of one list."""
    blank: bool
    """It has no content (yet)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The items of one page."""

    rows: tuple[Row, ...]
    count: int
    """The number of visible items, also those that were too many to be read."""
    partial: bool
    """The list has more items than the page holds now: they are added while one scrolls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a selector matched at one moment; two that differ show that the matches have changed."""

    document: str
    present: int
    visible: int
    blank: int
    busy: int
    """Visible matches that the page marks as loading (`aria-busy`)."""
    print: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """A picture, and the part of the page that it shows."""

    image: bytes
    box: Box


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """How the present document was loaded."""

    number: str
    """Chrome's id of its load; another document has another id."""
    url: str
    status: int | None
    """The HTTP status; None: not loaded over the network (`chrome:`, `data:`)."""
    redirects: tuple[str, ...]
    """The addresses that redirected to this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """The browser and the driver of this machine, as `worker prepare` found them."""

    browser: Path
    driver: Path
    """For `undetected` this is the patched copy."""
    version: str
    """The browser's version, for example 156.0.7500.3."""
    stamp: str = ""
    """Identifies the browser's file; it changes with an update."""

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Everything that one browser start needs."""

    settings: BrowserSettings
    installed: Installed
    ports: BrowserPorts
    folder: Path
    """The session's folder with wrappers, profile and temporary files; removed at its end."""
    browser: Path
    """The wrapper to start as the browser."""
    driver: Path
    """The wrapper to start as the driver."""

    @property
    def profile(self) -> Path:
        return self.folder / "profile"
