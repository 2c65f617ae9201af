"""The fleet inside a lab's host: its fleet.toml, its keys, and the command lines of its programs."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from fleet import programs
from fleet.errors import FleetError
from fleet.model import Paths
from lab.net import Lab
from lab.topology import SITE_NAME, TUNNEL_RESOLVER

HOME_DIRECTORY = Path("/opt/fleet")
QUERY = "커피"
_CALL_SECONDS = 120

Keys = Mapping[str, JsonValue]
Tables = dict[str, dict[str, JsonValue]]
Changes = Mapping[str, Keys]
NO_CHANGES: Changes = {}


def paths(lab: Lab) -> Paths:
    """The folders of the fleet inside LAB's host, seen from outside."""
    return Paths(root=lab.places.fleet_root)


def settings(lab: Lab, workers: int, *, first_uid: int = 1101, changes: Changes = NO_CHANGES) -> Tables:
    """The lab's fleet.toml as tables; CHANGES are keys to set, by table: `{"workers": {"deny_netlink": False}}`.

    The table "" has the keys outside every table.
    """
    made: Tables = {
        "": {},  # TOML needs it before all others
        "workers": {"count": workers, "first_uid": first_uid},
        "dns": {"resolvers": [str(TUNNEL_RESOLVER)]},
        "egress": {"urls": [f"https://{SITE_NAME}/ip"]},
        "browser": {
            "certificate_authorities": [str(lab.places.authority)],
            **({} if programs.undetected_is_installed() else {"driver": "selenium"}),
        },
        "loop": {"pause_seconds": 0},  # the lab's site needs no politeness
        "task": {"run": "search"},
        "task.options": {
            "home": f"https://{SITE_NAME}/",
            "search_box": "#q",
            "query": QUERY,
            "result_items": ".item",
            "seen_address": "#seen-address",
        },
    }
    for table, keys in changes.items():
        made.setdefault(table, {}).update(keys)
    return made


def toml(tables: Tables) -> str:
    """TABLES as TOML: strings, numbers, booleans and lists of these, which JSON writes the same way."""
    lines: list[str] = []
    for name, keys in tables.items():
        lines += [
            *([f"[{name}]"] if name else []),
            *(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in keys.items()),
            "",
        ]
    return "\n".join(lines)


def prepare(lab: Lab, workers: int, *, first_uid: int = 1101, changes: Changes = NO_CHANGES) -> None:
    """Prepare what `fleet up` and `fleet run` inside LAB's host need; raises FleetError.

    The lab must be up; afterwards there are fleet.toml, the accounts, and the lab's keys in netctl's store.
    """
    config = paths(lab).config
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(toml(settings(lab, workers, first_uid=first_uid, changes=changes)), encoding="utf-8")
    call(lab, "fleet", "accounts", "make")
    call(lab, "netctl", "keys", "import", *(str(path) for path in sorted(lab.places.keys.glob("*.conf"))))


def program(module: str, *arguments: str) -> list[str]:
    """The command that runs MODULE (`fleet`, `netctl`) from a place that every UID can read."""
    return [sys.executable, "-I", str(_release() / "launch.py"), module, *arguments]


def call(lab: Lab, module: str, *arguments: str) -> str:
    """Run one of the fleet's programs inside LAB's host and return its output; raises its error."""
    try:
        done = lab.run(
            "host",
            program(module, *arguments),
            stdin=subprocess.DEVNULL,
            timeout=_CALL_SECONDS,
            env={**os.environ, **programs.ERRORS_AS_DATA},
        )
    except subprocess.TimeoutExpired as error:
        raise FleetError(f"{module} {' '.join(arguments[:2])} took longer than {_CALL_SECONDS} s") from error
    if done.returncode != 0:
        raise programs.told_error(done.stderr, f"{module} {' '.join(arguments[:2])} ended with {done.returncode}")
    return done.stdout


@functools.cache
def _release() -> Path:
    """This code itself if it runs from a release, else a copy of the checkout."""
    here = Path(__file__).resolve().parent.parent
    copier = here / "bin/release"
    if not copier.exists():
        return here
    done = subprocess.run([str(copier), str(HOME_DIRECTORY)], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())
