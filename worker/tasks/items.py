"""Reads the items of a list over all its pages, converts and counts them; each page is read once it has loaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pydantic import Field, JsonValue

from fleet.errors import ElementMissing, PageFailed
from fleet.model import Settings
from worker.browser.commands import Browser
from worker.browser.interface import MOST_ITEMS, Box, Look, Row, Rows
from worker.tasks.options import FieldOptions, Fields, Selector, picks
from worker.tasks.steps import MOST_SCROLLS
from worker.tasks.values import Bound, NoValue, typed

_FAR = 10_000_000
"""Pixels; more than the height of any page."""
_COMES_SECONDS = 5.0


class ItemsOptions(Settings):
    """`items`: a list, on one page or on several."""

    select: Selector
    fields: Fields = Field(default_factory=lambda: {"text": FieldOptions()})
    next: Selector | None = None
    """The link or button to the next page; on the last page it is missing or disabled."""
    most_pages: int = Field(default=10, ge=1, le=100)
    most: int = Field(default=1000, ge=1, le=5000)
    """The most items that are counted."""
    kept: int = Field(default=100, ge=0, le=1000)
    """The most items that go into the answer."""
    total: Selector | None = None
    """An element in which the page shows the total number of items."""
    advertisement: str = ""
    """A selector that matches an advertisement, or something in it."""
    count_advertisements: bool = False
    """Whether advertisements have ranks, too."""
    scroll: bool = False
    """Whether the list adds its items while one scrolls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One item, with its place."""

    fields: dict[str, JsonValue]
    rank: int | None
    """From 1, over all pages; None: an advertisement without a rank."""
    page: int
    advertisement: bool
    box: Box


@dataclass(slots=True)
class List:
    """The state of reading the whole list."""

    options: ItemsOptions
    count: int = 0
    """The items read, advertisements included."""
    ranked: int = 0
    pages: int = 0
    total: int | None = None
    complete: bool = False
    """Whether the last page was read to its end."""
    partial: bool = False
    """Whether a page has more items than it holds at once, and `scroll` is not set."""
    _before: tuple[str, list[str]] = ("", [])
    """The document read last, and the hashes of its items' texts."""

    def walk(
        self, browser: Browser, *, seconds: float, unlike: Look | None = None, leave: Callable[[], None]
    ) -> Iterator[list[Item]]:
        """Yield the items page by page, until the last page or `most` items; raises ElementMissing, PageFailed.

        LEAVE is called on each page but the last, after its items have been yielded.
        """
        while True:
            browser.wait(self.options.select, seconds=seconds, state="filled", unlike=unlike)
            rows = self._new(browser, self._rows(browser, seconds))
            if rows is None:
                self.complete = not self.partial
                return
            self.pages += 1
            self.total = self.total if self.total is not None else self._told(browser)
            yield [self._item(row) for row in rows]
            if self.count >= self.options.most or self.pages >= self.options.most_pages:
                return
            unlike = browser.look(self.options.select)
            if not self._turn(browser, seconds, leave):
                self.partial = self.partial or self._goes_on(browser)
                self.complete = not self.partial
                return

    def _new(self, browser: Browser, rows: list[Row]) -> list[Row] | None:
        """ROWS without those of the previous page (a list may grow in place); None: it is the same page again."""
        document, said = browser.look(self.options.select).document, [row.words for row in rows]
        known, before = self._before
        if document != known and said == before:
            return None
        self._before = document, said
        grown = document == known and len(said) > len(before) > 0
        same = sum(one == other for one, other in zip(before, said, strict=False))
        return rows[len(before) :] if grown and 2 * same > len(before) else rows

    def _goes_on(self, browser: Browser) -> bool:
        """Whether more items appear when one scrolls to the end; only then is the end of the list certain."""
        options, before = self.options, self._before[1]
        if options.scroll or (self.total or 0) in range(1, self.count + 1) or not browser.scroll(options.select, _FAR):
            return False
        try:
            browser.wait(options.select, seconds=_COMES_SECONDS, state="filled")
            said = [row.words for row in browser.rows(options.select, {}).rows]
        except ElementMissing:
            return True
        browser.scroll(options.select, -_FAR)
        return len(said) > len(before) or 2 * len(set(said) - set(before)) > len(said)

    def _rows(self, browser: Browser, seconds: float) -> list[Row]:
        """The rows of one page, all read in one state of it."""
        options = self.options
        wanted = options.most - self.count
        for _ in range(3):
            before = browser.look(options.select)
            found = self._shown(browser, wanted)
            if browser.look(options.select) == before:
                break
            browser.wait(options.select, seconds=seconds, state="filled")
        else:
            raise PageFailed(browser.page.url, "CHANGING")
        self.partial = self.partial or (found.partial and not options.scroll)
        return self._scrolled(browser, [*found.rows], wanted) if options.scroll else [*found.rows]

    def _shown(self, browser: Browser, most: int = MOST_ITEMS) -> Rows:
        """The rows of the list that the page holds now."""
        fields, advertisement = picks(self.options.fields), self.options.advertisement
        return browser.rows(self.options.select, fields, advertisement=advertisement, most=most)

    def _scrolled(self, browser: Browser, rows: list[Row], wanted: int) -> list[Row]:
        """ROWS, and those that appear while one scrolls to the end."""
        options, rows = self.options, [row for row in rows if not row.blank]
        known = {row.key for row in rows}
        for _ in range(MOST_SCROLLS):
            moved = browser.scroll(options.select)
            browser.wait(options.select, seconds=5, state="stable")
            fresh = [row for row in self._shown(browser).rows if row.key not in known and not row.blank]
            if not (moved or fresh):  # the end, but more items may still be loading
                browser.wait(options.select, seconds=_COMES_SECONDS, state="filled")
                found = self._shown(browser).rows
                fresh = [row for row in found if row.key not in known and not row.blank]
                self.partial = self.partial or any(row.blank for row in found)
            known |= {row.key for row in fresh}
            rows += fresh
            if len(rows) >= wanted or not (moved or fresh):
                break
        return rows[:wanted]

    def _item(self, row: Row) -> Item:
        self.count += 1
        ranks = self.options.count_advertisements or not row.advertisement
        self.ranked += ranks
        fields: dict[str, JsonValue] = {}
        for name, one in self.options.fields.items():
            try:
                fields[name] = value(row.fields.get(name, ()), one)
            except NoValue as error:
                if not one.optional:
                    raise ElementMissing(f"item {self.count}: {name}: {error}", hint=_HINT) from None
                fields[name] = None
        rank = self.ranked if ranks else None
        return Item(fields=fields, rank=rank, page=self.pages, advertisement=row.advertisement, box=row.box)

    def _told(self, browser: Browser) -> int | None:
        """The total that the page shows; None when it shows none, or only an approximate or minimal number."""
        if self.options.total is None:
            return None
        texts = browser.texts(self.options.total)
        try:
            number = typed(texts[0], FieldOptions(kind="number")) if texts else None
        except Bound:
            return None
        except NoValue as error:
            raise ElementMissing(f"items.total: {error}", hint=_HINT) from None
        return number if isinstance(number, int) else None

    def _turn(self, browser: Browser, seconds: float, leave: Callable[[], None]) -> bool:
        """Go to the next page; returns whether there is one."""
        selector = self.options.next
        if selector is None or not browser.look(selector).visible:
            return False
        states = (browser.attributes(selector, name)[0] for name in ("disabled", "aria-disabled"))
        if any(state is not None and state != "false" for state in states):
            return False
        leave()
        browser.click(selector, seconds=seconds)
        return True


_HINT = "the selector may be too wide or too narrow; `optional = true` allows it to be missing"


def value(raw: Sequence[str | None], options: FieldOptions) -> JsonValue:
    """RAW, converted to the field's kind; raises NoValue, also for a missing field that is not optional."""
    if options.every:
        return [None if one is None else typed(one, options) for one in raw]
    found = [one for one in raw if one is not None and (one or options.kind == "text")]
    if not found:
        if options.optional:
            return None
        raise NoValue("there is none that can be seen")
    made = [typed(one, options) for one in (found if options.is_one else found[:1])]
    if len({json.dumps({**one, "text": ""} if isinstance(one, dict) else one) for one in made}) > 1:
        raise NoValue(f"there are several that differ, such as {found[0][:40]!r} and {found[1][:40]!r}")
    return made[0]
