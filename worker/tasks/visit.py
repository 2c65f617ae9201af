"""Task `visit`, a preset of `watch`: loads pages, waits for something on each, takes a screenshot of the last."""

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
    """Open every page in order, then take the screenshot."""
    options = context.options
    same = {name: getattr(options, name) for name in Options.model_fields if name != "urls"}
    as_watch = watch.Options(pages=options.urls, **same)
    return watch.watch(Context(browser=context.browser, options=as_watch, stage=context.stage))
