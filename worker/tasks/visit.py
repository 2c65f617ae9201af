"""Task `visit`, a preset of `watch`: load one page or several, wait for something on each, screenshot of the last."""

from __future__ import annotations

from pydantic import Field

from fleet.model import WebAddress
from worker.tasks import watch
from worker.tasks.contract import Context, Found, takes
from worker.tasks.options import Selector, TaskOptions
from worker.tasks.picture import WINDOW, Shot


class Options(TaskOptions):
    """`[task.options]` of `visit`."""

    urls: tuple[WebAddress, ...] = Field(min_length=1)
    wait_for: Selector | None = None
    screenshot: Shot = WINDOW


@takes(Options)
def visit(context: Context[Options]) -> Found:
    """Every page in order, then the screenshot."""
    options = context.options
    same = watch.Options(
        pages=options.urls,
        wait_for=options.wait_for,
        screenshot=options.screenshot,
        wait_seconds=options.wait_seconds,
        seen_address=options.seen_address,
    )
    return watch.watch(Context(browser=context.browser, options=same, stage=context.stage))
