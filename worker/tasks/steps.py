"""The steps that are done on a page before it is read, one after another."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from fleet.errors import ElementMissing
from fleet.model import Settings
from worker.browser.commands import Browser
from worker.browser.hands import KEYS
from worker.tasks.options import Selector

OPTIONAL_SECONDS = 3.0
"""How long to wait for an optional step's element: a cookie notice appears a moment after its page."""
_KINDS = ("click", "fill", "press", "choose", "scroll", "wait")


class Step(Settings):
    """One step: one of click, fill, press, choose, scroll and wait, with its options."""

    click: Selector | None = None
    fill: Selector | None = None
    """Put `text` into a field, and send its form with `submit`."""
    text: str = ""
    submit: bool = False
    press: str | None = None
    """A key, in the focused element."""
    choose: Selector | None = None
    """The option `value` (or of that text) of a select."""
    value: str = ""
    scroll: Literal["end"] | int | None = None
    """A number of pixels, or `end`: until the page grows no more."""
    wait: Selector | None = None
    state: Literal["present", "visible", "gone", "stable"] = "stable"
    optional: bool = False
    """Skip the step if it cannot be done."""

    @model_validator(mode="after")
    def _one_of_them(self) -> Step:
        chosen = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if len(chosen) != 1:
            raise ValueError(f"a step is one of {', '.join(_KINDS)}; this has {', '.join(chosen) or 'none'}")
        if self.press is not None and self.press not in KEYS:
            raise ValueError(f"there is no key {self.press!r}; there are {', '.join(KEYS)}")
        return self

    def take(self, browser: Browser, *, seconds: float) -> None:
        """Do the step; raises ElementMissing unless it is optional."""
        try:
            self._take(browser, min(seconds, OPTIONAL_SECONDS) if self.optional else seconds)
        except ElementMissing:
            if not self.optional:
                raise

    def _take(self, browser: Browser, seconds: float) -> None:
        if self.click is not None:
            browser.click(self.click, seconds=seconds)
        elif self.fill is not None:
            browser.fill(self.fill, self.text, submit=self.submit, seconds=seconds)
        elif self.press is not None:
            browser.press(self.press)
        elif self.choose is not None:
            browser.wait(self.choose, seconds=seconds, state="visible")
            browser.choose(self.choose, self.value)
        elif self.wait is not None:
            browser.wait(self.wait, seconds=seconds, state=self.state)
        elif self.scroll == "end":
            scroll_to_end(browser, seconds=seconds)
        else:
            browser.scroll(pixels=self.scroll)

    @property
    def leads_on(self) -> bool:
        """Whether it may lead to another page or other content."""
        return self.click is not None or self.submit or self.press == "Enter"


MOST_SCROLLS = 200


def scroll_to_end(browser: Browser, *, seconds: float) -> None:
    """Scroll until the page goes no further; waits for what loads on the way."""
    for _ in range(MOST_SCROLLS):
        if not browser.scroll():
            browser.wait_loaded(seconds=seconds)
            if not browser.scroll():
                return
