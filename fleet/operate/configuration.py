"""Reads fleet.toml into a Fleet and reports every mistake at once. The only place that reads TOML."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
from pathlib import Path

from pydantic import ValidationError

from fleet.errors import ConfigurationError, FleetError
from fleet.isolation import UID
from fleet.machine import spaces
from fleet.model import Fleet, Paths, TaskSettings, WorkersSettings
from fleet.programs import PLAIN_ENVIRONMENT, Installation, call
from fleet.settings.mistakes import mistakes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_TRY_SECONDS = 10.0
_EXAMPLE = re.compile(r"https?://www\.example\.(?:com|net|org)\b[^\"]*", re.IGNORECASE)


def asked(arguments: argparse.Namespace, fleet: Fleet | None = None) -> tuple[Fleet, Installation]:
    """The settings and the installation for a command line; raises ConfigurationError.

    The settings are FLEET, or fleet.toml; --workers, if given, replaces workers.count, and the isolation is one that
    works on this machine.
    """
    paths = Paths.from_environment()
    if fleet is None:
        fleet = load(paths.config)
        refuse_example(fleet, str(paths.config))
    fleet, count = resolved(fleet, paths), getattr(arguments, "workers", None)
    if count is not None:
        fleet = with_workers(fleet, count, "--workers")
    return fleet, Installation(paths=paths)


def resolved(fleet: Fleet, paths: Paths) -> Fleet:
    """FLEET; if it names no isolation and its workers cannot have network namespaces here, with isolation `uid`."""
    if "isolation" in fleet.model_fields_set or not why_uid(fleet, paths):
        return fleet
    return fleet.model_copy(update={"isolation": UID.name})


def why_uid(fleet: Fleet, paths: Paths) -> str:
    """Why the workers of FLEET cannot have network namespaces; "" when they can, or when only root could find out."""
    if fleet.reach.loopback_ports:
        return "reach.loopback_ports names services of this host, which a worker's own namespace does not contain"
    if os.geteuid() != 0:
        return ""
    try:
        call(spaces.NAMED, PLAIN_ENVIRONMENT, deadline_seconds=_TRY_SECONDS)
    except FleetError as error:
        return f"no named network namespace can be made here: {error.message}"
    folder = next(one for one in (paths.spaces, *paths.spaces.parents) if one.is_dir())
    try:
        tempfile.NamedTemporaryFile(dir=folder).close()
    except OSError as error:
        return f"network namespaces cannot be named in {folder}: {error.strerror}"
    return ""


def load(path: Path) -> Fleet:
    """The fleet that PATH describes; raises ConfigurationError naming every mistake with file, key and value."""
    return parse(_text(path), str(path))


def task(path: Path) -> TaskSettings:
    """The `[task]` in PATH; raises ConfigurationError."""
    try:
        found = tomllib.loads(_text(path))
        if "task" not in found:
            raise ConfigurationError(f"{path} has no [task]", hint="docs/watch.md")
        return TaskSettings.model_validate(found["task"])
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not TOML: {error}", hint="correct that line") from None
    except ValidationError as error:
        raise ConfigurationError(mistakes(error, f"{path}: task."), hint="docs/watch.md") from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path} is not there", hint="sudo fleet init writes it; docs/fleet.example.toml explains every key"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigurationError(f"{path} cannot be read: {reason}", hint=f"ls -l {path}") from None


def parse(text: str, origin: str) -> Fleet:
    """The fleet that TEXT (TOML) describes; ORIGIN names it in messages."""
    try:
        return Fleet.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{origin} is not TOML: {error}", hint="correct that line") from None
    except ValidationError as error:
        hint = "docs/fleet.example.toml explains every key"
        raise ConfigurationError(mistakes(error, f"{origin}: "), hint=hint) from None


def refuse_example(fleet: Fleet, origin: str) -> None:
    """Raise ConfigurationError for addresses that only docs/fleet.example.toml can have (RFC 2606)."""
    settings = {"egress.urls": [*fleet.egress.urls], "task.options": fleet.task.options}
    left = [(key, url) for key, value in settings.items() for url in _EXAMPLE.findall(json.dumps(value))]
    if left:
        words = [f"{origin}: {key}: {url} is the example's, and no site of yours" for key, url in left]
        raise ConfigurationError("\n".join(words), hint="write what you want to use there; fleet init asks for it")


def with_workers(fleet: Fleet, count: int, origin: str) -> Fleet:
    """FLEET with COUNT workers instead of workers.count; ORIGIN names the source of COUNT in messages."""
    document = {name: getattr(fleet, name) for name in Fleet.model_fields}
    try:
        workers = WorkersSettings.model_validate({**fleet.workers.model_dump(), "count": count})
        return Fleet.model_validate({**document, "workers": workers})
    except ValidationError as error:
        raise ConfigurationError(f"{origin}: {error.errors()[0]['msg']} (it is {count!r})") from None
