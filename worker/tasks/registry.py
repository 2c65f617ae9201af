"""From `[task]` in fleet.toml to something that can be run, with every mistake named before the first loop.

A task is a function from a Context to what it Found. Its options are checked by the pydantic model in
the function's attribute `Options`, if it has one; else it gets them as they stand.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from pydantic import BaseModel, ValidationError

from fleet.errors import ConfigurationError
from fleet.mistakes import mistakes
from fleet.model import TaskSettings
from worker.tasks import search, visit
from worker.tasks.contract import Task

GROUP = "fleet.tasks"


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A task with its checked options."""

    name: str
    run: Task
    options: Any


def resolve(settings: TaskSettings) -> Ready:
    """The task that SETTINGS name; raises ConfigurationError with every mistake."""
    run = _find(settings.run)
    model = getattr(run, "Options", None)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return Ready(name=settings.run, run=run, options=settings.options)
    try:
        return Ready(name=settings.run, run=run, options=model.model_validate(settings.options))
    except ValidationError as error:
        hint = f"{settings.run} has the options {', '.join(model.model_fields)}"
        raise ConfigurationError(mistakes(error, "task.options."), hint=hint) from None


def _find(name: str) -> Task:
    builtin: dict[str, Task] = {"search": search.search, "visit": visit.visit}
    if name in builtin:
        return builtin[name]
    found = [entry for entry in entry_points(group=GROUP) if entry.name == name]
    try:
        task = found[0].load() if found else _import(name)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"task.run: {name!r} cannot be loaded: {error}",
            hint=f"search, visit, an entry point of the group {GROUP}, or package.module:function",
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
