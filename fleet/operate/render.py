"""Renders supervisord.conf: a pure function of the settings, the paths and the tunnel backend.

The syntax is only in supervisord.conf.j2; this module does the quoting. Supervisor expands `%`, starts a
comment at ` ;` or ` #` and cannot quote a line break, so such values are refused here.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fleet.backends import Backend
from fleet.errors import ConfigurationError, ExitCode
from fleet.machine import processes
from fleet.model import Fleet
from fleet.programs import Installation

if TYPE_CHECKING:
    from jinja2 import Template

TEMPLATE = "supervisord.conf.j2"
_FILES_PER_PROGRAM = 8
"""Descriptors supervisord may need for one program: pipes and log files, also while a restart overlaps."""
_OTHERS = 5
"""Programs that exist once: netctl, hub, keyservice, rearm, acts."""


def supervisord_conf(fleet: Fleet, installation: Installation, backend: Backend, *, start_workers: bool = True) -> str:
    """The text of supervisord.conf; raises ConfigurationError for a path that supervisor cannot hold."""
    paths = installation.paths
    tunnels = fleet.members if backend.program else ()
    return _template(installation).render(
        socket=paths.supervisor_socket,
        pid_file=paths.supervisor_pid,
        logs=paths.logs,
        log=paths.log,
        open_files=open_files(len(tunnels) + len(fleet.members)),
        environment=installation.environment,
        final_codes=",".join(str(int(code)) for code in ExitCode.final()),
        netctl_start_seconds=processes.NETCTL_START_SECONDS,
        worker_start_seconds=processes.WORKER_START_SECONDS,
        stop_wait_seconds=math.ceil(fleet.workers.stop_wait_seconds),
        netctl=installation.netctl("serve", walls=fleet.walls),
        hub=installation.hub("serve") if fleet.hub.jobs != "none" else None,
        keyservice=installation.keyservice("serve") if fleet.keys.source else None,
        rearm=installation.rearm(),
        acts=installation.acts() if fleet.hub.web.stops_workers else None,
        tunnels=[{"name": worker.interface, "command": installation.tunnel(worker, backend)} for worker in tunnels],
        start_workers=start_workers,
        workers=[{"name": worker.name, "command": installation.worker(worker)} for worker in fleet.members],
    )


def open_files(programs: int) -> int:
    """How many descriptors supervisord asks for, with PROGRAMS programs of workers (tunnels and workers)."""
    return 1024 + _FILES_PER_PROGRAM * (_OTHERS + programs)


def _template(installation: Installation) -> Template:
    import jinja2  # imported here because it takes a tenth of every command's start time

    # No HTML is produced here; the filters do supervisor's own quoting.
    environment = jinja2.Environment(  # noqa: S701
        loader=jinja2.FileSystemLoader(installation.release), undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"value": _value, "command": _command, "environment": _environment}
    return environment.get_template(TEMPLATE)


def _value(value: object) -> str:
    """VALUE with `%` doubled; raises ConfigurationError when it cannot be quoted."""
    text = str(value)
    if any(ord(character) < 32 or character in '"\\' for character in text) or " ;" in text or " #" in text:
        raise ConfigurationError(
            f"{text!r} cannot stand in supervisord.conf", hint="use paths without quotes, backslashes and ` ;`"
        )
    return text.replace("%", "%%")


def _command(words: Sequence[str]) -> str:
    """A command line that supervisor splits back into WORDS."""
    return " ".join(shlex.quote(_value(word)) for word in words)


def _environment(variables: Mapping[str, str]) -> str:
    """`KEY="value",...` for [supervisord], whose environment supervisor 4.3 expands twice."""
    return ",".join(f'{key}="{_value(_value(value))}"' for key, value in sorted(variables.items()))
