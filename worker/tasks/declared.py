"""What the options of each task may be, as JSON Schema: jobs are held against it where they are accepted.

Modules in /etc/fleet/tasks and installed packages are imported for it. So a process of its own does that, which first
gives up root and, by a network namespace in which nothing is, every way out of this host.
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
    """Of what a function makes before it is looked at, anything may be given, unless the function says what."""

    def function_before_schema(self, schema: Any) -> JsonSchemaValue:
        given = schema.get("json_schema_input_schema")
        return self.generate_inner(given) if given else {}

    function_wrap_schema = function_plain_schema = function_before_schema

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {}

    def emit_warning(self, kind: Any, detail: str) -> None:
        """Of a default that is no JSON: nobody reads defaults."""


def give_up_root() -> None:
    """Be nobody, in a network of one's own; raises OSError where the machine makes no network namespaces."""
    if os.geteuid() == 0:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)


def built_in() -> dict[str, JsonValue]:
    """Those of this release."""
    return {name: _declaration(task) for name, task in BUILT_IN.items()}


def others(folder: Path, chosen: str) -> dict[str, JsonValue]:
    """Those of installed packages, of the modules in FOLDER, and of CHOSEN's. What cannot be imported is left out."""
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
    """What LOAD gives; nothing where it fails, ends the program or takes too long."""
    signal.alarm(_IMPORT_SECONDS)
    try:
        made = [load()]
    except BaseException:  # noqa: BLE001 - a module may raise anything; the worker that runs it says what
        made = []
    finally:
        signal.alarm(0)
    yield from made


def _too_long(_: int, __: FrameType | None) -> None:
    raise TimeoutError


def _declaration(task: object) -> JsonValue:
    """None: it takes anything."""
    model = getattr(task, "Options", None)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return None
    made: JsonValue = next(iter([*_tried(partial(model.model_json_schema, schema_generator=_Lenient))]), None)
    return made
