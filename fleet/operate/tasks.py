"""Asks the worker's program for the tasks and their options; it drops root before it imports the operator's own."""

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
    """The JSON Schema of each task's options, by name; empty, with a warning, when the program fails."""
    command = installation.module("worker", "declare", "--task", fleet.task.run)
    try:
        found: object = json.loads(call(command, installation.environment, deadline_seconds=_SECONDS))
        if not isinstance(found, dict):
            raise FleetError("the answer is no JSON object")
    except (FleetError, ValueError, RecursionError) as error:
        console.say(f"fleet: WARNING: tasks do not declare their options, so jobs are not checked: {error}")
        return {}
    return found
