"""Checks what the launcher allows a worker's processes: whether any outlive it, and whether programs give it rights.

A script of root's runs under the launcher in place of the worker, so nothing here relies on what a worker says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import Unanswered
from fleet.operate import lifecycle
from fleet.operate.ask import ask
from fleet.operate.borrowed import under_launcher
from fleet.programs import Installation

_SECONDS = 60.0
_STARTED, _MOUNTS = "started", "mounts"
_SCRIPT = f"""
(setsid sh -c 'sleep 300 & sleep 300' >/dev/null 2>&1 &)
sh -c 'kill -STOP $$' >/dev/null 2>&1 &
cat /proc/self/status; echo {_MOUNTS}; cat /proc/self/mountinfo; echo {_STARTED}
kill -KILL $$
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Walls:
    """What the check found."""

    error: str = ""
    """Why the check could not run."""
    left: tuple[str, ...] = ()
    """Processes that were still there after the launcher had ended."""
    rights: tuple[str, ...] = ()
    """Why a program of this host could give a worker rights or another UID."""


def look(spec: Path, installation: Installation, uid: int) -> Walls:
    """Run the script with the launcher and the SPEC of the worker with UID, which must be stopped."""
    try:
        with under_launcher(installation, spec, "walls", ["/bin/sh", "-c", _SCRIPT]) as words:
            command = ["sh", "-c", '"$@"; exit 0', "sh", *words]  # it ends by a signal
            said = ask(command, "", installation.environment, seconds=_SECONDS, what="a program under the launcher")
            over = [*lifecycle.left_over(installation.paths, {uid})]
    except Unanswered as error:
        return Walls(error=str(error))
    left = tuple(f"process {one.pid} ({one.info['name']})" for one in over)
    lines = said.splitlines()
    if _STARTED not in lines:
        return Walls(error="the program under the launcher did not run to its end")
    at = lines.index(_MOUNTS)
    return Walls(left=left, rights=tuple(_rights(lines[:at], lines[at + 1 : lines.index(_STARTED)])))


def _rights(status: Iterable[str], mounts: Iterable[str]) -> Iterable[str]:
    fields = {name: value.strip() for name, _, value in (line.partition(":") for line in status)}
    if fields.get("NoNewPrivs") != "1":
        yield "no_new_privs is not set"
    if int(fields.get("CapBnd", "1"), 16):
        yield f"the bounding set is {fields.get('CapBnd')}"
    # proc(5): the mount point is the fifth field, its options the sixth.
    places = [words[4] for words in map(str.split, mounts) if "nosuid" not in words[5].split(",")]
    if places:
        yield f"set-UID programs take effect on {', '.join(places[:4])}"
