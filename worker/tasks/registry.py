"""Turns `[task]` of fleet.toml into a task that can be run, and reports every mistake before the first loop.

A task is a function that takes a Context and returns a Found. Its options are validated by the pydantic
model in the function's attribute `Options` (contract.takes), if it has one; else they are passed unchanged.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import BaseModel, ValidationError

from fleet.errors import ConfigurationError, TaskFailed
from fleet.model import TaskSettings
from fleet.settings.mistakes import mistakes
from worker.browser.commands import Browser
from worker.tasks import search, visit, watch
from worker.tasks.contract import Context, Found, Task

GROUP = "fleet.tasks"
BUILT_IN: dict[str, Task] = {"watch": watch.watch, "search": search.search, "visit": visit.visit}
_HINT = "docs/own-task.md says what a task may return"


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A task with its validated options."""

    name: str
    run: Task
    options: Any

    def perform(self, browser: Browser, stage: Callable[[str], AbstractContextManager[None]]) -> Found:
        """Run it; raises TaskFailed when its answer cannot be stored."""
        try:
            found: object = self.run(Context(browser=browser, options=self.options, stage=stage))
        except ValidationError as error:
            if error.title != Found.__name__:
                raise
            raise TaskFailed(f"task {self.name}: {_unkept(error)}", hint=_HINT) from None
        if not isinstance(found, Found):
            raise TaskFailed(f"task {self.name}: it gave a {type(found).__name__}, and no Found", hint=_HINT)
        return found


def resolve(settings: TaskSettings, prefix: str = "task.options.") -> Ready:
    """The task that SETTINGS name; raises ConfigurationError with every mistake; PREFIX precedes option names."""
    run = _find(settings.run)
    model = getattr(run, "Options", None)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return Ready(name=settings.run, run=run, options=settings.options)
    try:
        return Ready(name=settings.run, run=run, options=model.model_validate(settings.options))
    except ValidationError as error:
        hint = f"{settings.run} has the options {', '.join(model.model_fields)}"
        raise ConfigurationError(mistakes(error, prefix), hint=hint) from None


def check(settings: TaskSettings) -> None:
    """Raise ConfigurationError for mistakes in SETTINGS that can be found without importing a task, as root must not.

    The worker finds the rest (resolve).
    """
    if settings.run in BUILT_IN:
        resolve(settings)
    elif not (":" in settings.run or _installed(settings.run)):
        _find(settings.run)


def _installed(name: str) -> list[EntryPoint]:
    """The entry points called NAME, by the packages' metadata, without importing them."""
    return [entry for entry in entry_points(group=GROUP) if entry.name == name]


def _find(name: str) -> Task:
    if name in BUILT_IN:
        return BUILT_IN[name]
    found = _installed(name)
    try:
        task = found[0].load() if found else _import(name)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"task.run: {name!r} cannot be loaded: {error}",
            hint=f"watch, search, visit, an entry point of the group {GROUP}, or module:function in /etc/fleet/tasks",
        ) from None
    if not callable(task):
        raise ConfigurationError(f"task.run: {name!r} is no function")
    checked: Task = task
    return checked


def _import(name: str) -> object:
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise ImportError("there is no task of that name")
    return getattr(importlib.import_module(module), function)


def _unkept(error: ValidationError) -> str:
    """The first wrong fields, and why they are wrong."""

    def field(place: tuple[int | str, ...]) -> str:
        # Below `answer.KEY` a place also has the type of each value on the way: list, dict.
        return ".".join(map(str, (*place[:2], *place[3::2])))[:200]

    return "; ".join(
        f"{field(item['loc'])}: {item['msg']} (a {type(item['input']).__name__})" for item in error.errors()[:5]
    )
