"""When a page is ready, by named conditions.

load      Chrome's load event: everything that the document names has loaded
dom       the document itself is complete
quiet     the document is complete, and no request has begun or ended for a moment (longer while some are open)
a state of a selector: present, visible, gone, stable (visible, and its count and text rest for a moment), filled
(stable for longer, no match is blank, and nothing that could change them is under way)

No condition but `load` waits for a request that never ends: a page with a hanging picture can be read.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from fleet.errors import ElementMissing, PageFailed
from worker.browser.interface import Condition, Look, State
from worker.browser.tab import Tab

QUIET_SECONDS = 0.5
HANGING_SECONDS = 2.0
"""How long a page with open requests (hanging pictures, long polls) must be quiet."""
AFTER_LOAD_SECONDS = 5.0
"""A page that polls is never quiet: after this time from its load event it counts as ready."""
AFTER_DOM_SECONDS = 15.0
REST_SECONDS = {"visible": 0.0, "stable": 0.5, "filled": 1.0}
LONGEST_REST_SECONDS = 3.0
"""A list that has been at rest this long is read even while a request is open that could change it."""


def loaded(tab: Tab, condition: Condition, *, seconds: float, patience: float = 1) -> None:
    """Wait until the tab's document meets CONDITION, then judge it; raises PageFailed or Answered.

    All rest times above are multiplied by PATIENCE.
    """
    seen = _Since(patience)

    def ready() -> bool:
        documents, stages = tab.documents, tab.documents.current.stages
        if documents.pending or "DOMContentLoaded" not in stages:
            seen.forget()
            return documents.current.unreachable
        since_dom, since_load = seen.seconds("dom"), seen.seconds("load" if "load" in stages else "")
        if condition == "dom":
            return True
        if condition == "load":
            return "load" in stages
        quiet = tab.counter.quiet_seconds() / patience
        if "load" in stages and quiet >= QUIET_SECONDS and since_load >= QUIET_SECONDS:
            return not tab.counter.under_way() or quiet >= HANGING_SECONDS
        return (
            quiet >= HANGING_SECONDS <= since_dom or since_load >= AFTER_LOAD_SECONDS or since_dom >= AFTER_DOM_SECONDS
        )

    if not tab.until(ready, seconds=seconds):
        tab.judge()
        if condition == "load" or "DOMContentLoaded" not in tab.documents.current.stages or tab.documents.pending:
            raise tab.late()
    tab.judge()
    if fault := tab.ask("fault"):
        raise PageFailed(tab.documents.current.url, fault)
    if hanging := tab.counter.under_way():
        tab.documents.note(f"{len(hanging)} request(s) without an answer yet, such as {hanging[0]}")


def look(tab: Tab, selector: str) -> Look:
    """The present matches of SELECTOR."""
    number = tab.documents.current.number
    found = tab.ask("state", selector)
    return Look(document=number, **{name: int(value) for name, value in found.items()})


def selected(
    tab: Tab,
    selectors: Sequence[str],
    state: State,
    *,
    seconds: float,
    unlike: Look | None = None,
    patience: float = 1,
) -> int:
    """Wait until all SELECTORS are in STATE at once and differ from UNLIKE; returns the number of matches.

    Raises ElementMissing, which describes what was there instead.
    """
    seen: list[Look] = []
    rest = _Rest(patience)

    def ready() -> bool:
        if tab.documents.pending:
            rest.forget()
            return False
        seen[:] = [look(tab, selector) for selector in selectors]
        if state == "filled" and (tab.documents.current.is_arriving or any(one.busy for one in seen)):
            rest.forget()
            return False
        if not all(_is(one, state) and _differs(one, unlike) for one in seen):
            rest.forget()
            return False
        if state in ("gone", "present"):
            return True
        rested = rest.seconds([*seen])
        blank = any(one.blank for one in seen)
        unsure = blank or tab.counter.changing() or "DOMContentLoaded" not in tab.documents.current.stages
        return rested >= (LONGEST_REST_SECONDS if state == "filled" and unsure else REST_SECONDS[state])

    if tab.until(ready, seconds=seconds):
        tab.judge()
        return sum(one.present if state == "present" else one.visible for one in seen)
    tab.judge()
    pairs = dict(zip(selectors, seen, strict=False))
    selector = next((name for name, one in pairs.items() if not _is(one, state)), selectors[0])
    raise _missing(tab, selector, pairs.get(selector), unlike, seconds)


def _is(now: Look, state: State) -> bool:
    """Whether NOW is in STATE, apart from being at rest."""
    if state in ("gone", "present"):
        return not now.visible if state == "gone" else bool(now.present)
    return bool(now.visible) and not (state == "filled" and now.blank == now.visible)


def _differs(now: Look, before: Look | None) -> bool:
    return before is None or (now.document, now.print) != (before.document, before.print)


def _missing(
    tab: Tab, selector: str, last: Look | None, unlike: Look | None, seconds: float
) -> ElementMissing | PageFailed:
    """The error that says why SELECTOR did not reach its state."""
    url = tab.documents.current.url
    if tab.documents.pending:
        return tab.late()  # the next page did not arrive: the path or the site is bad
    if last is None or not last.present:
        what = f"has no {selector!r}"
    elif not last.visible:
        what = f"has {last.present} of {selector!r}, none of them visible,"
    elif last.busy:
        what = f"says of {last.busy} of {selector!r} that they are loading (aria-busy),"
    elif tab.documents.current.is_arriving:
        what = f"is not all there yet, with {last.visible} of {selector!r},"
    elif last.blank:
        what = f"has {last.visible} of {selector!r}, {last.blank} of them blank,"
    elif not _differs(last, unlike):
        what = f"shows what it showed before in {selector!r}"
    else:
        what = f"has {last.visible} of {selector!r}, which do not come to rest,"
    hint = "look at the screenshot, and at task.options in fleet.toml"
    return ElementMissing(f"{url} {what} after {seconds:g} s", hint=hint)


class _Since:
    """How long conditions have held, in seconds divided by PATIENCE."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._begun: dict[str, float] = {}

    def forget(self) -> None:
        self._begun.clear()

    def seconds(self, name: str) -> float:
        """Seconds since NAME was first asked for; -1 for the empty name, which never holds."""
        begun = self._begun.setdefault(name, time.monotonic())
        return (time.monotonic() - begun) / self._patience if name else -1.0


class _Rest:
    """How long a value has been unchanged, in seconds divided by PATIENCE."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._value: object = None
        self._begun = 0.0

    def forget(self) -> None:
        self._value = None

    def seconds(self, value: object) -> float:
        now = time.monotonic()
        if value != self._value:
            self._value, self._begun = value, now
        return (now - self._begun) / self._patience
