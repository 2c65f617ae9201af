"""What tasks there are and which options they take, asked of the worker's program, which is nobody then."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import JsonValue

from fleet.errors import FleetError
from fleet.model import Fleet
from fleet.programs import Installation, call
from fleet.terminal import console

_SECONDS = 60.0


def declared(fleet: Fleet, installation: Installation) -> Mapping[str, JsonValue]:
    """The JSON Schema of each task's options, by name; nothing, and a word about it, where that cannot be had."""
    command = installation.module("worker", "declare", "--task", fleet.task.run)
    try:
        found: object = json.loads(call(command, installation.environment, deadline_seconds=_SECONDS))
        if not isinstance(found, dict):
            raise FleetError("it is no table")
    except (FleetError, ValueError, RecursionError) as error:
        console.say(f"fleet: WARNING: what tasks declare cannot be had, so jobs are not held against it: {error}")
        return {}
    return found
