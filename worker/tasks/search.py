"""Task `search`: load a site, type a query into its search box, take home what it finds and a screenshot."""

from __future__ import annotations

from pydantic import Field, JsonValue

from fleet.model import WebAddress
from worker.browser.interface import Browser
from worker.tasks.contract import Context, Found, takes
from worker.tasks.options import Selector, TaskOptions

_KEPT_ITEMS = 10


class Options(TaskOptions):
    """`[task.options]` of `search`."""

    home: WebAddress
    search_box: Selector
    query: str = Field(min_length=1)
    result_items: Selector


@takes(Options)
def search(context: Context[Options]) -> Found:
    """Home page, query, results, screenshot."""
    options, browser = context.options, context.browser
    with context.stage("load"):
        browser.open(options.home)
        browser.wait(options.search_box, seconds=options.wait_seconds)
    with context.stage("search"):
        browser.fill(options.search_box, options.query, submit=True)
        count = browser.wait(options.result_items, seconds=options.wait_seconds)
        browser.wait_loaded(seconds=options.wait_seconds)
        items: list[JsonValue] = [*browser.texts(options.result_items)[:_KEPT_ITEMS]]
        address = first_text(browser, options.seen_address)
    with context.stage("screenshot"):
        png = browser.screenshot()
    answer: dict[str, JsonValue] = {"query": options.query, "count": count, "items": items}
    return Found(screenshot=png, seen_address=address, answer=answer)


def first_text(browser: Browser, selector: str | None) -> str | None:
    """The text of the first match, None without a selector or a match."""
    texts = browser.texts(selector) if selector else []
    return texts[0].strip() if texts else None
