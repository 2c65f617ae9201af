"""Runs a task in a browser and records the result."""

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
    """Run TASK in BROWSER and keep in RECORD what it found; raises what it raises."""
    record.stage = "task"  # until the task names a stage
    try:
        found = task.perform(browser, record.timed)
        browser.judge()  # raises when the page was cut off or replaced after it was read
        record.found = found
    except (Answered, ConfigurationError, ElementMissing, PageFailed, TaskFailed) as error:
        # A picture of the page explains more than any message.
        with contextlib.suppress(FleetError):
            if not (isinstance(error, PageFailed) and error.code.startswith(NOT_DRAWN)):
                record.found = Found(screenshot=picture.snap(browser, _window(task)))
        raise
    finally:
        with contextlib.suppress(FleetError):  # the browser may be gone
            record.page, record.notes = browser.page, browser.notes


def _window(task: Ready) -> picture.ShotOptions:
    """The options for a picture of the window, with the masks and format of the TASK's own picture."""
    shot = getattr(task.options, "screenshot", None)
    return shot.model_copy(update={"of": "window"}) if isinstance(shot, picture.ShotOptions) else picture.WINDOW
