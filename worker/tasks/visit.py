"""Task `visit`: load one page or several, wait for something on each, screenshot of the last."""

from __future__ import annotations

from pydantic import Field, JsonValue

from fleet.model import WebAddress
from worker.tasks.contract import Context, Found, takes
from worker.tasks.options import Selector, TaskOptions
from worker.tasks.search import first_text


class Options(TaskOptions):
    """`[task.options]` of `visit`."""

    urls: tuple[WebAddress, ...] = Field(min_length=1)
    wait_for: Selector | None = None


@takes(Options)
def visit(context: Context[Options]) -> Found:
    """Every page in order, then the screenshot."""
    options, browser = context.options, context.browser
    visited: list[JsonValue] = []
    with context.stage("load"):
        for url in options.urls:
            browser.open(url)
            if options.wait_for:
                browser.wait(options.wait_for, seconds=options.wait_seconds)
            visited.append(browser.location)
        address = first_text(browser, options.seen_address)
    with context.stage("screenshot"):
        png = browser.screenshot()
    return Found(screenshot=png, seen_address=address, answer={"visited": visited})
