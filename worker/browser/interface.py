"""What a task may do with a browser, what it can go wrong with, and what a browser needs to start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from fleet.model import BrowserSettings
from fleet.numbers import BrowserPorts
from fleet.result import Losses
from worker import logins

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


class Browser(Protocol):
    """One running Chrome. Selectors are CSS, and reach into open shadow roots and frames of the same site.

    Every wait ends within its seconds or raises ElementMissing. Everything that reads reads what a person would see.
    """

    def open(self, url: str, *, until: Condition = "quiet") -> None:
        """Load URL; raises PageFailed, also for Chrome's own error page, and Answered for a site that refuses."""
        ...

    def wait(self, *selectors: str, seconds: float, state: State = "stable", unlike: Look | None = None) -> int:
        """Wait until all SELECTORS are in STATE, and no longer as one looked in UNLIKE; how many match."""
        ...

    def wait_loaded(self, *, seconds: float, until: Condition = "quiet") -> None:
        """Wait until the page stands, as after a form was sent; raises as `open` does."""
        ...

    def fill(self, selector: str, text: str, *, submit: bool = False, seconds: float = 0) -> None:
        """Type TEXT into a field in place of what is there, and Enter if SUBMIT."""
        ...

    def click(self, selector: str, *, seconds: float = 0) -> None:
        """Press the first visible match, once nothing covers it."""
        ...

    def press(self, key: str) -> None:
        """Press a key where the cursor is: Enter, Tab, Escape and others of worker/browser/hands.py."""
        ...

    def choose(self, selector: str, value: str) -> None:
        """Choose an option of a select by its value or text."""
        ...

    def scroll(self, selector: str | None = None, pixels: int | None = None) -> bool:
        """Scroll what scrolls around SELECTOR, or the page; by PIXELS, or most of what is seen; whether it moved."""
        ...

    def look(self, selector: str) -> Look:
        """What SELECTOR matches now."""
        ...

    def texts(self, selector: str) -> list[str]:
        """The text of every visible match, in the page's order; none is an empty list."""
        ...

    def attributes(self, selector: str, name: str) -> list[str | None]:
        """That attribute of every visible match, None where it has none."""
        ...

    def html(self, selector: str) -> list[str]:
        """The source of every visible match."""
        ...

    def fields(self, picks: Mapping[str, Pick]) -> Raw:
        """What PICKS take of the page."""
        ...

    def rows(
        self, selector: str, picks: Mapping[str, Pick], *, advertisement: str = "", most: int = MOST_ITEMS
    ) -> Rows:
        """What PICKS take of each visible match; ADVERTISEMENT is a selector."""
        ...

    def json_ld(self) -> list[str]:
        """The page's structured data (schema.org), each script's source."""
        ...

    def boxes(self, selector: str) -> list[Box]:
        """Where the visible matches are."""
        ...

    def reveal(self, box: Box) -> None:
        """Scroll the window to BOX."""
        ...

    def capture(
        self, *, full: bool = False, selector: str | None = None, kind: Picture = "png", quality: int | None = None
    ) -> Capture:
        """The same as `screenshot`, with its place; QUALITY (1 to 100) is a WebP's."""
        ...

    def screenshot(self, *, full: bool = False, selector: str | None = None, kind: Picture = "png") -> bytes:
        """The window's content; FULL: the whole page; SELECTOR: its first visible match."""
        ...

    def counts(self) -> Losses:
        """Since the browser's start; waits a moment for requests that are still under way."""
        ...

    @property
    def location(self) -> str:
        """Where the page says it is (`location.href`)."""
        ...

    @property
    def page(self) -> Page:
        """How the document came that stands in the browser."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What else a person would have seen: dialogs and their text, refused downloads; one line each."""
        ...

    def restore(self, known: logins.State) -> None:
        """Begin with what is KNOWN; raises ConfigurationError for what Chrome does not take."""
        ...

    def state(self, sites: Sequence[str]) -> logins.State:
        """What the browser knows of SITES: cookies and local storage. No page stands in it afterwards."""
        ...

    def judge(self) -> None:
        """Raise as `open` does unless a whole page stands in the browser."""
        ...

    def close(self) -> None:
        """The certain end: no process, no profile, no temporary file of it is left. Never raises."""
        ...


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
