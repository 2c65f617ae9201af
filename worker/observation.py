"""One look at the site: a task done in a browser, and what it came to in the record."""

from __future__ import annotations

import contextlib

from fleet.errors import Answered, ConfigurationError, ElementMissing, FleetError, PageFailed, TaskFailed
from worker.browser.commands import Browser
from worker.browser.picture import NOT_DRAWN
from worker.record import Record
from worker.tasks import picture
from worker.tasks.contract import Found
from worker.tasks.registry import Ready


def observe(record: Record, task: Ready, browser: Browser) -> None:
    """Let TASK work in BROWSER and keep in RECORD what it found; raises what it raises."""
    record.stage = "task"  # until it names one
    try:
        found = task.perform(browser, record.timed)
        browser.judge()  # a page that was cut or replaced after it was read is no page
        record.found = found
    except (Answered, ConfigurationError, ElementMissing, PageFailed, TaskFailed) as error:
        # What the page looked like instead is worth more than any message.
        with contextlib.suppress(FleetError):
            if not (isinstance(error, PageFailed) and error.code.startswith(NOT_DRAWN)):
                record.found = Found(screenshot=picture.snap(browser, _window(task)))
        raise
    finally:
        with contextlib.suppress(FleetError):  # of a browser that is gone
            record.page, record.notes = browser.page, browser.notes


def _window(task: Ready) -> picture.ShotOptions:
    """The window, masked and kept as the TASK's own picture."""
    shot = getattr(task.options, "screenshot", None)
    return shot.model_copy(update={"of": "window"}) if isinstance(shot, picture.ShotOptions) else picture.WINDOW
