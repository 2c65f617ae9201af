"""`fleet db|job|result|site`: runs the hub's own program under its account, with the settings of fleet.toml."""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

from fleet.errors import UsageError
from fleet.operate import accounts, configuration, folders
from fleet.operate.tasks import declared
from fleet.programs import PLAIN_ENVIRONMENT
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
    environment = {**PLAIN_ENVIRONMENT, "FLEET_ROOT": str(installation.paths.root)}
    with contextlib.ExitStack() as ends:
        file = None
        if (name := getattr(arguments, "file", None)) not in (None, "-"):
            try:  # opened under the caller's account: the hub's may not be allowed to read it
                file = ends.enter_context(Path(name).open("rb"))
            except OSError as error:
                raise UsageError(f"{name} cannot be read: {error.strerror}") from None
            given.append("--file-is-given")
        command = program(*given, *words)
        return subprocess.run(command, env=environment, stdin=file, pass_fds=(settings,), check=False).returncode
