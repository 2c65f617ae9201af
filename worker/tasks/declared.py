"""Declares the options of each task as JSON Schema, by which jobs are checked when they are added.

For that, modules in /etc/fleet/tasks and of installed packages are imported. So a separate process does it, which first
drops root and enters an empty network namespace, from which nothing on or off this host can be reached.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from types import FrameType
from typing import Any

from pydantic import BaseModel, JsonValue
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from fleet.machine import syscalls
from worker.tasks.registry import BUILT_IN, GROUP

_NOBODY = 65_534
_IMPORT_SECONDS = 10


class _Lenient(GenerateJsonSchema):
    """Where a function preprocesses a value, any input is allowed, unless the function declares its input's schema."""

    def function_before_schema(self, schema: Any) -> JsonSchemaValue:
        given = schema.get("json_schema_input_schema")
        return self.generate_inner(given) if given else {}

    function_wrap_schema = function_plain_schema = function_before_schema

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {}

    def emit_warning(self, kind: Any, detail: str) -> None:
        """Ignore warnings about defaults that are no JSON, because defaults are not used."""


def give_up_root() -> None:
    """Become nobody in an empty network namespace; raises OSError when the machine cannot make one."""
    if os.geteuid() == 0:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)


def built_in() -> dict[str, JsonValue]:
    """The declarations of this release's tasks, by name."""
    return {name: _declaration(task) for name, task in BUILT_IN.items()}


def others(folder: Path, chosen: str) -> dict[str, JsonValue]:
    """The declarations of installed packages, of modules in FOLDER, and of CHOSEN's module, if they can be imported."""
    sys.path.append(str(folder))
    signal.signal(signal.SIGALRM, _too_long)
    found: dict[str, JsonValue] = {}
    for entry in entry_points(group=GROUP):
        for task in _tried(entry.load):
            found[entry.name] = _declaration(task)
    modules = {path.stem for path in folder.glob("*.py")} | {path.parent.name for path in folder.glob("*/__init__.py")}
    if ":" in chosen:
        modules.add(chosen.partition(":")[0])
    for name in sorted(modules):
        for module in _tried(partial(importlib.import_module, name)):
            functions = ((f"{name}:{key}", value) for key, value in vars(module).items() if callable(value))
            found |= {key: _declaration(value) for key, value in functions if not isinstance(value, type)}
    return found


def _tried(load: Callable[[], Any]) -> Iterator[Any]:
    """The result of LOAD; nothing when it raises anything or takes longer than 10 s."""
    signal.alarm(_IMPORT_SECONDS)
    try:
        made = [load()]
    except BaseException:  # noqa: BLE001 - a module may raise anything; the worker that runs it reports that
        made = []
    finally:
        signal.alarm(0)
    yield from made


def _too_long(_: int, __: FrameType | None) -> None:
    raise TimeoutError


def _declaration(task: object) -> JsonValue:
    """The schema of TASK's options; None: any."""
    model = getattr(task, "Options", None)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return None
    made: JsonValue = next(iter([*_tried(partial(model.model_json_schema, schema_generator=_Lenient))]), None)
    return made
