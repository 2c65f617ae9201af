"""The commands that a task may give to a browser, made of tab, readiness, hands and picture."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from pydantic import JsonValue

from fleet.errors import BrowserDied
from fleet.result import Losses
from worker import logins
from worker.browser import hands, picture, readiness, state
from worker.browser.count import Counter
from worker.browser.interface import (
    MOST_ITEMS,
    Box,
    Capture,
    Condition,
    Look,
    Page,
    Pick,
    Picture,
    Raw,
    Row,
    Rows,
    State,
)
from worker.browser.tab import Tab

_SETTLE_SECONDS = 1.0


class Browser:
    """One running Chrome. Selectors are CSS, and also match in open shadow roots and frames of the same site.

    Every wait succeeds within its seconds or raises ElementMissing. Reading methods return only what a person would
    see.
    """

    def __init__(
        self, page_load_timeout_seconds: float, patience: float, before_open: Callable[[str], None] = lambda _: None
    ) -> None:
        self._page_load_seconds, self._patience = page_load_timeout_seconds, patience
        self._before_open = before_open
        self._counter = Counter()
        self._counted = ""
        self._connected: Tab | None = None

    @property
    def _tab(self) -> Tab:
        if self._connected is None:
            raise BrowserDied("the browser is closed")
        return self._connected

    def open(self, url: str, *, until: Condition = "quiet") -> None:
        """Load URL; raises PageFailed, also for Chrome's own error page, and Answered for a site that refuses."""
        self._before_open(url)
        deadline = time.monotonic() + self._page_load_seconds
        self._tab.go(url, seconds=self._page_load_seconds)
        self.wait_loaded(seconds=max(0.1, deadline - time.monotonic()), until=until)

    def wait_loaded(self, *, seconds: float, until: Condition = "quiet") -> None:
        """Wait until the page is loaded, for example after a form was sent; raises like `open`."""
        readiness.loaded(self._tab, until, seconds=seconds, patience=self._patience)
        self._count_page()

    def _count_page(self) -> None:
        """Count the page, unless it is the one counted last: a form's answer may come without `open`."""
        if (number := self._tab.documents.current.number) != self._counted:
            self._counter.add(Losses(pages=1))
            self._counted = number

    def wait(self, *selectors: str, seconds: float, state: State = "stable", unlike: Look | None = None) -> int:
        """Wait until all SELECTORS are in STATE, and differ from UNLIKE; returns the number of matches."""
        found = readiness.selected(self._tab, selectors, state, seconds=seconds, unlike=unlike, patience=self._patience)
        self._count_page()
        return found

    def fill(self, selector: str, text: str, *, submit: bool = False, seconds: float = 0) -> None:
        """Type TEXT into a field, replacing its content, then Enter if SUBMIT."""
        hands.fill(self._tab, selector, text, submit=submit, seconds=seconds)

    def click(self, selector: str, *, seconds: float = 0) -> None:
        """Click the first visible match, once nothing covers it."""
        hands.click(self._tab, selector, seconds=seconds)

    def press(self, key: str) -> None:
        """Press a key in the focused element: Enter, Tab, Escape and others of worker/browser/hands.py."""
        hands.press(self._tab, key)

    def choose(self, selector: str, value: str) -> None:
        """Choose an option of a select by its value or text."""
        hands.choose(self._tab, selector, value)

    def scroll(self, selector: str | None = None, pixels: int | None = None) -> bool:
        """Scroll the container of SELECTOR, or the page, by PIXELS or most of its height; returns whether it moved."""
        return hands.scroll(self._tab, selector, pixels)

    def look(self, selector: str) -> Look:
        """What SELECTOR matches now."""
        return readiness.look(self._tab, selector)

    def texts(self, selector: str) -> list[str]:
        """The text of every visible match, in the page's order; empty when there is none."""
        return [str(text) for text in self._tab.ask("texts", selector, MOST_ITEMS)]

    def attributes(self, selector: str, name: str) -> list[str | None]:
        """The attribute NAME of every visible match; None for a match without it."""
        return list(self._tab.ask("attributes", selector, name, MOST_ITEMS))

    def html(self, selector: str) -> list[str]:
        """The HTML source of every visible match."""
        return [str(text) for text in self._tab.ask("html", selector, MOST_ITEMS)]

    def fields(self, picks: Mapping[str, Pick]) -> Raw:
        """The values of PICKS in the page."""
        found = self._tab.ask("page", _told(picks))
        for name, over in found["over"].items():
            if over:
                self._tab.documents.note(f"{over} lay over {name} when it was read")
        return dict(found["fields"])

    def rows(
        self, selector: str, picks: Mapping[str, Pick], *, advertisement: str = "", most: int = MOST_ITEMS
    ) -> Rows:
        """The values of PICKS in each visible match; ADVERTISEMENT is a selector that marks advertisements."""
        found = self._tab.ask("rows", selector, _told(picks), advertisement, min(most, MOST_ITEMS))
        rows = tuple(
            Row(
                fields=one["fields"],
                advertisement=one["advertisement"],
                box=_box(one["box"]),
                words=str(one["key"]).partition(":")[0],
                key=str(one["key"]),
                blank=bool(one["blank"]),
            )
            for one in found["rows"]
        )
        return Rows(rows=rows, count=int(found["count"]), partial=bool(found["partial"]))

    def json_ld(self) -> list[str]:
        """The source of each script with structured data (schema.org, JSON-LD)."""
        return [str(text) for text in self._tab.ask("jsonLd")]

    def boxes(self, selector: str) -> list[Box]:
        """The places of the visible matches."""
        return [_box(box) for box in self._tab.ask("boxes", selector)]

    def screenshot(self, *, full: bool = False, selector: str | None = None, kind: Picture = "png") -> bytes:
        """A picture of the window's content; FULL: of the whole page; SELECTOR: of its first visible match."""
        return self.capture(full=full, selector=selector, kind=kind).image

    def capture(
        self, *, full: bool = False, selector: str | None = None, kind: Picture = "png", quality: int | None = None
    ) -> Capture:
        """Like `screenshot`, with its place on the page; QUALITY (1 to 100) is for WebP."""
        return picture.take(self._tab, full=full, selector=selector, kind=kind, quality=quality)

    def reveal(self, box: Box) -> None:
        """Scroll the window to BOX."""
        self._tab.ask("reveal", *box)

    @property
    def location(self) -> str:
        """The page's `location.href`."""
        return str(self._tab.ask("address"))

    @property
    def page(self) -> Page:
        """How the present document was loaded."""
        load = self._tab.documents.unshown or self._tab.documents.current
        return Page(number=load.number, url=load.url, status=load.status, redirects=tuple(load.redirects))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person would have noticed beside the page: dialogs, refused downloads; one line each."""
        return tuple(self._tab.documents.notes)

    def judge(self) -> None:
        """Raise like `open` unless the present page is complete."""
        self._tab.judge()

    def evaluate(self, script: str, *arguments: JsonValue) -> JsonValue:
        """The result of SCRIPT, the body of a function with ARGUMENTS, in the page; a promise is awaited."""
        value: JsonValue = self._tab.evaluate(script, arguments)
        return value

    def restore(self, known: logins.State) -> None:
        """Begin with the cookies and storage KNOWN; raises ConfigurationError for what Chrome does not accept."""
        state.restore(self._tab, known)

    def state(self, sites: Sequence[str]) -> logins.State:
        """The cookies and local storage of SITES. Afterwards the browser shows an empty page."""
        return state.taken(self._tab, sites)

    def counts(self) -> Losses:
        """The counts since the browser's start; waits up to 1 s for open requests."""
        self._counter.settle(seconds=_SETTLE_SECONDS)
        return self._counter.losses


def _told(picks: Mapping[str, Pick]) -> dict[str, JsonValue]:
    return {name: asdict(pick) for name, pick in picks.items()}


def _box(numbers: list[int]) -> Box:
    left, top, width, height = map(int, numbers)
    return left, top, width, height
