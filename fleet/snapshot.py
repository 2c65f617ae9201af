"""The settings that the running fleet uses, from `fleet up` or `fleet run` to the next start.

The operator's program reads and checks fleet.toml, and writes the result here before it starts anything. Every other
program reads this, so a later edit of fleet.toml takes effect at the next start, for all of them at once.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel, JsonValue, ValidationError

from fleet.errors import ConfigurationError
from fleet.machine.files import write_durably
from fleet.model import Fleet, Paths
from fleet.settings.mistakes import mistakes


class Snapshot(BaseModel, frozen=True, extra="forbid"):
    """The code and the settings of a start."""

    release: Path
    """The folder of the code."""
    fleet: Fleet
    tasks: Mapping[str, JsonValue] = {}
    """The options of each task, as JSON Schema; null: any. The options of a task without an entry are not checked."""


def write(snapshot: Snapshot, paths: Paths) -> None:
    """Write SNAPSHOT, which every program reads from now on. Its folder must exist; its mode says who may read it."""
    write_durably(paths.snapshot, snapshot.model_dump_json(indent=1).encode(), 0o644)


def read(path: Path) -> Snapshot:
    """The snapshot in PATH; raises ConfigurationError."""
    try:
        return Snapshot.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ConfigurationError(f"no fleet was started here: {path} is not there", hint="fleet up") from None
    except OSError as error:
        hint = "only root and the fleet's own users may read it"
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}", hint=hint) from None
    except ValidationError as error:
        hint = "another release wrote it: fleet down, then fleet up"
        raise ConfigurationError(mistakes(error, f"{path}: "), hint=hint) from None


def last(path: Path) -> Snapshot | None:
    """The same, or None when nothing was started since the host's boot. Raises ConfigurationError."""
    # Not Path.exists(), which raises for a user who may not enter the folder.
    return read(path) if os.path.exists(path) else None  # noqa: PTH110


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add the option --settings: another snapshot than that of the last start (the doctor passes one on stdin)."""
    usual, words = Paths.from_environment().snapshot, "those of a start, as fleet up writes them (%(default)s)"
    parser.add_argument("--settings", type=Path, default=usual, metavar="FILE", help=words)


def differences(one: Fleet, other: Fleet) -> tuple[str, ...]:
    """The keys whose values differ, sorted, as fleet.toml has them: `dns.resolvers`, `task.options.query`."""
    before, after = (dict(_leaves("", fleet.model_dump(mode="json"))) for fleet in (one, other))
    missing = object()
    return tuple(sorted(key for key in before | after if before.get(key, missing) != after.get(key, missing)))


def _leaves(name: str, value: JsonValue) -> Iterator[tuple[str, JsonValue]]:
    if not isinstance(value, dict):
        yield name, value
        return
    for key, inner in value.items():
        yield from _leaves(f"{name}.{key}" if name else key, inner)
