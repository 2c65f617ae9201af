"""What goes into a browser and comes out of it: values alone. What a task may do with one: commands.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fleet.model import BrowserSettings
from fleet.numbers import BrowserPorts

MOST_ITEMS = 1000
"""So many matches are read at once."""

Condition = Literal["load", "dom", "quiet"]
"""When a page counts as loaded; worker/browser/readiness.py says what each means."""
State = Literal["present", "visible", "gone", "stable", "filled"]
"""What is waited for of a selector."""
Picture = Literal["png", "webp"]
Raw = dict[str, "list[str | None]"]
"""What was picked, by its name: of each match; None: an attribute that it does not have."""
Box = tuple[int, int, int, int]
"""Left, top, width and height on the page, in CSS pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """What is taken of the first visible match of `select`, of `every` one, or of the `meta` elements of a name."""

    select: str = ":scope"
    attribute: str = ""
    html: bool = False
    valid: bool = False
    """Of a text what is not struck through."""
    figures: bool = False
    """It is read for a number: raised digits and pictures of digits are told apart from others (numerals.py)."""
    every: bool = False
    meta: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One item of a list."""

    fields: Raw
    advertisement: bool
    box: Box
    words: str
    """A print of what it says."""
    key: str
    """Tells two items of one list apart."""
    blank: bool
    """Nothing stands in it (yet)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The items of one page."""

    rows: tuple[Row, ...]
    count: int
    """Visible ones, those included that were too many to be read."""
    partial: bool
    """The list keeps more items than the page holds now: it is drawn while one scrolls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a selector matched at one moment; two that differ were looks at two things."""

    document: str
    present: int
    visible: int
    blank: int
    busy: int
    """Of the visible ones: the page says that they are loading (`aria-busy`)."""
    print: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """A picture, and what of the page it shows."""

    image: bytes
    box: Box


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """How the document came that stands in the browser."""

    number: str
    """Chrome's own of its load; another document has another one."""
    url: str
    status: int | None
    """None: nothing of the network's (`chrome:`, `data:`)."""
    redirects: tuple[str, ...]
    """The addresses before this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """The browser and the driver of this machine, as `worker prepare` found them."""

    browser: Path
    driver: Path
    """For `undetected` the patched copy."""
    version: str
    """The browser's, for example 156.0.7500.3."""
    stamp: str = ""
    """Of the browser's file: an update gives it another."""

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Everything one browser start needs."""

    settings: BrowserSettings
    installed: Installed
    ports: BrowserPorts
    folder: Path
    """The session's own: wrappers, profile and temporary files; removed at its end."""
    browser: Path
    """The wrapper that stands for the browser."""
    driver: Path
    """The wrapper that stands for the driver."""

    @property
    def profile(self) -> Path:
        return self.folder / "profile"
