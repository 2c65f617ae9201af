"""`fleet db|job|result|site`: runs the hub's own program under its account, with the settings of fleet.toml."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import IO

from fleet.errors import UsageError
from fleet.operate import accounts, configuration, folders
from fleet.operate.tasks import declared
from fleet.programs import PLAIN_ENVIRONMENT, Installation
from fleet.snapshot import Snapshot
from fleet.terminal import console

_ADDING = (("job", "add"), ("job", "apply"))


def ask(arguments: argparse.Namespace) -> int:
    """Pass this command line and standard input to the hub's program; returns its exit code."""
    fleet, installation = configuration.asked(argparse.Namespace())
    words = sys.argv[1:]
    folder = installation.paths.hub_database.parent
    if not fleet.hub.database and os.path.exists(folder) and not os.access(folder, os.X_OK):  # noqa: PTH110
        console.require_root(f"fleet {' '.join(words[:2])}")
    if os.geteuid() == 0:
        accounts.ensure_hub()
        folders.make(folders.hub_state(installation.paths))
    # A memfd and not a pipe: another account could not open a pipe by its /dev/fd path.
    settings = os.memfd_create("settings")
    takes = declared(fleet, installation) if tuple(words[:2]) in _ADDING else {}
    os.write(settings, Snapshot(release=installation.release, fleet=fleet, tasks=takes).model_dump_json().encode())
    given = ["--settings", f"/dev/fd/{settings}"]
    program = installation.hub if os.geteuid() == 0 else partial(installation.module, "hub")
    if (name := getattr(arguments, "file", None)) not in (None, "-"):
        try:  # opened under the caller's account: the hub's may not be allowed to read it
            with Path(name).open("rb") as file:
                return _run(program(*given, "--file-is-given", *words), settings, installation, file)
        except OSError as error:
            raise UsageError(f"{name} cannot be read: {error.strerror}") from None
    return _run(program(*given, *words), settings, installation, None)


def _run(command: Sequence[str], settings: int, installation: Installation, given: IO[bytes] | None) -> int:
    environment = {**PLAIN_ENVIRONMENT, "FLEET_ROOT": str(installation.paths.root)}
    return subprocess.run(command, env=environment, stdin=given, pass_fds=(settings,), check=False).returncode
