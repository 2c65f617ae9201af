"""Task `watch`: opens pages, does steps, reads fields and a list over several pages, and finds one item of it."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from pydantic import Field, JsonValue, model_validator

from fleet.errors import Answered, ElementMissing, PageFailed
from fleet.model import WebAddress
from worker.browser.commands import Browser
from worker.browser.interface import Look
from worker.tasks.contract import Context, Found, takes
from worker.tasks.find import Wanted, better, folded, match
from worker.tasks.items import ItemsOptions, List, value
from worker.tasks.options import FieldOptions, Fields, MarkOptions, Marks, Selector, TaskOptions, picks
from worker.tasks.picture import WINDOW, Album, Shot
from worker.tasks.seen import seen_address
from worker.tasks.steps import Step
from worker.tasks.structured import only, parsed
from worker.tasks.values import NoValue

_LOOK_SECONDS = 1.0
_READS = 3
_LOG_IN = re.compile(r"log-?in|sign-?in|log-?on|/sso|/auth", re.IGNORECASE)
_JSON_LD_HINT = "look at the page's <script type=application/ld+json>"


class Options(TaskOptions):
    """`[task.options]` of `watch`."""

    pages: tuple[WebAddress, ...] = Field(min_length=1)
    """Opened one after another; fields, list and picture come from the last one."""
    steps: tuple[Step, ...] = ()
    wait_for: Selector | None = None
    fields: Fields = Field(default_factory=dict)
    items: ItemsOptions | None = None
    find: Wanted | None = None
    """Wanted values of an item's fields; the item that matches most of them is found."""
    empty: Marks = ()
    """Marks of a page that says that there is nothing, which is an answer."""
    limited: Marks = ()
    """Marks of a page that says that it was asked too often."""
    refused: Marks = ()
    absent: Marks = ()
    """Marks of a page that says that there is no such thing (any more), whatever its status."""
    screenshot: Shot = WINDOW

    @model_validator(mode="after")
    def _finds_in_a_list(self) -> Options:
        unknown = set(self.find or ()) - set(self.items.fields if self.items else ())
        if self.find is not None and (unknown or not self.find):
            raise ValueError(f"find: items.fields has no {', '.join(sorted(unknown)) or 'field that is asked for'}")
        return self


@takes(Options)
def watch(context: Context[Options]) -> Found:
    """Open, do the steps, read."""
    options, browser = context.options, context.browser
    album = Album(browser, options.screenshot)
    with context.stage("load"):
        visited: list[JsonValue] = []
        for page in options.pages:
            if visited:
                album.pass_by()
            browser.open(page)
            _refuse_front(page, browser.page.url)
            _refuse_log_in(browser, page)
            if options.wait_for and not options.steps:
                browser.wait(options.wait_for, seconds=options.wait_seconds)
            visited.append(browser.location)
    with context.stage("search"):
        before = _do(browser, options)
    for _ in range(_READS):
        with context.stage("search"):
            found = _read(browser, options, before, album)
            stood = _standing(browser, options)
        if album.picture is None:
            with context.stage("screenshot"):
                album.take()
        if _standing(browser, options) == stood:
            break
        if options.items:  # the list's first pages cannot be read again
            raise PageFailed(browser.page.url, "CHANGING")
        album.forget()
    else:
        raise PageFailed(browser.page.url, "CHANGING")
    shots = {"screenshot": album.picture, "more_screenshots": album.others}
    return found.model_copy(update={"answer": {"visited": visited, **found.answer}, **shots})


def _standing(browser: Browser, options: Options) -> object:
    """The state that answer and picture must share: the document and its fields' values."""
    said = {name: field for name, field in options.fields.items() if not field.attribute and field.kind != "html"}
    return browser.page.number, browser.fields(picks(said)) if said else None


def _refuse_front(asked: str, shown: str) -> None:
    """Raise Answered when a shop redirects from a removed item to its front page, which has other items' prices."""
    there, here = urlsplit(asked), urlsplit(shown)
    thing = there.path.strip("/") and re.search(r"\d", f"{there.path}?{there.query}")
    if thing and not here.path.strip("/") and not here.query:
        raise Answered("absent", f"the site leads to its front page instead of {asked}", url=shown)


def _refuse_log_in(browser: Browser, asked: str) -> None:
    """Raise Answered when a site redirects to its log-in instead of the page that was ASKED for."""
    shown = browser.page.url
    if _LOG_IN.search(shown) and not _LOG_IN.search(asked) and browser.look("input[type=password]").visible:
        raise Answered("refused", f"the site leads to its log-in instead of {asked}", url=shown)


def _do(browser: Browser, options: Options) -> Look | None:
    """Do the steps; returns the list's state before the last step that leads on, from which it must then differ."""
    before: Look | None = None
    for step in options.steps:
        if step.leads_on and options.items:
            before = browser.look(options.items.select)
        step.take(browser, seconds=options.wait_seconds)
    if options.steps and options.wait_for:
        browser.wait(options.wait_for, seconds=options.wait_seconds)
    elif options.steps and not options.items:
        browser.wait_loaded(seconds=options.wait_seconds)
    return before if before is not None and before.present else None


def _read(browser: Browser, options: Options, before: Look | None, album: Album) -> Found:
    try:
        if options.items:
            _await_list(browser, options, options.items.select, before)
        return _found(browser, options, before, album)
    except ElementMissing:
        # Something is missing: the page may say why.
        _refuse_marked(browser, options)
        if said := _said(browser, options.empty):
            answer = {"address": browser.location}
            return Found(outcome="empty", reason=f"the page says: {said}", answer={**answer, "count": 0, "items": []})
        raise


def _await_list(browser: Browser, options: Options, select: str, before: Look | None) -> None:
    """Wait until the list is visible; raises ElementMissing when a page at rest has a mark instead."""
    deadline = time.monotonic() + options.wait_seconds
    marks = (*options.empty, *options.limited, *options.refused, *options.absent)
    while marks:
        try:
            browser.wait(select, seconds=_LOOK_SECONDS, state="visible", unlike=before)
        except ElementMissing:
            if time.monotonic() > deadline:
                raise
            browser.wait_loaded(seconds=options.wait_seconds)
            if _said(browser, marks) and not browser.look(select).visible:
                raise
        else:
            return


def _said(browser: Browser, marks: Sequence[MarkOptions]) -> str:
    for mark in marks:
        for text in browser.texts(mark.select):
            if folded(mark.text) in folded(text):
                return " ".join((mark.text or text).split())[:200]
    return ""


def _found(browser: Browser, options: Options, before: Look | None, album: Album) -> Found:
    answer: dict[str, JsonValue] = {}
    if options.items:
        answer |= _list(browser, options, options.items, before, album)
    if options.fields:
        answer["fields"] = fields(browser, options.fields, seconds=options.wait_seconds)
    _refuse_marked(browser, options)
    return Found(answer={**answer, "address": browser.location}, seen_address=seen_address(browser, options))


def _refuse_marked(browser: Browser, options: Options) -> None:
    """Raise Answered for a page with marks of a refusal, even if it also has what was wanted."""
    for outcome in ("refused", "limited", "absent"):
        if said := _said(browser, getattr(options, outcome)):
            raise Answered(outcome, f"the page says: {said}", url=browser.page.url) from None


def _list(
    browser: Browser, options: Options, items: ItemsOptions, before: Look | None, album: Album
) -> dict[str, JsonValue]:
    whole, kept, best = List(items), list[JsonValue](), None

    def is_here() -> bool:
        return best is not None and best.item.page == whole.pages

    def leave() -> None:
        if not is_here():
            album.pass_by()

    for page in whole.walk(browser, seconds=options.wait_seconds, unlike=before, leave=leave):
        kept += [{**item.fields, "rank": item.rank, "page": item.page} for item in page[: items.kept - len(kept)]]
        for item in page:
            if options.find and better(found := match(item, options.find), best):
                best = found
        if best is not None and is_here():
            album.take(mark=best.item.box)
        if best is not None and options.find and best.strength == len(options.find):
            break
    if best is not None:
        leave()
    answer: dict[str, JsonValue] = {
        "count": whole.count,
        "pages": whole.pages,
        "total": whole.total,
        "complete": whole.complete and (whole.total is None or whole.total <= whole.count),
        "items": kept,
    }
    if options.find:
        place: dict[str, JsonValue] = {"found": best is not None, "rank": None, "page": None, "item": None}
        if best is not None:
            place |= {"rank": best.item.rank, "page": best.item.page, "item": best.item.fields, "matched": best.matched}
        answer["find"] = place
    if whole.partial:
        answer["note"] = "the list adds its items while one scrolls: items.scroll = true reads them all"
    return answer


def fields(browser: Browser, wanted: dict[str, FieldOptions], *, seconds: float) -> dict[str, JsonValue]:
    """The page's WANTED fields, typed; raises ElementMissing for one that is missing or not of its kind."""
    shown = {one.select for one in wanted.values() if not (one.optional or one.meta or one.json_ld or one.attribute)}
    if shown:
        browser.wait(*sorted(shown), seconds=seconds, state="filled")
    raw = browser.fields(picks(wanted))
    scripts = parsed(browser.json_ld()) if any(field.json_ld for field in wanted.values()) else []
    made: dict[str, JsonValue] = {}
    for name, field in wanted.items():
        try:
            made[name] = value([only(scripts, field.json_ld)] if field.json_ld else raw[name], field)
        except NoValue as error:
            if not field.optional:
                hint = _JSON_LD_HINT if field.json_ld else "look at the screenshot, and at task.options.fields"
                raise ElementMissing(f"{browser.page.url}: {name}: {error}", hint=hint) from None
            made[name] = None
    return made
