"""Inside supervisord: adds programs to a running group and removes them. supervisord itself adds only whole groups.

The workers are one group, so that they end together. supervisord.conf names this module as an RPC interface. It is
loaded into supervisord, so what only one method needs is imported in that method. It also keeps supervisord calm on a
full disk.
"""

from __future__ import annotations

import resource
from typing import Any

from supervisor.loggers import Handler, RotatingFileHandler
from supervisor.states import STOPPED_STATES
from supervisor.xmlrpc import Faults, RPCError


class Joining:
    """The methods `fleet.*`, beside `supervisor.*` on the same socket, which only root may use."""

    def __init__(self, supervisord: Any) -> None:
        self._supervisord = supervisord
        self._kept: list[int] = []
        Handler.handleError = _drop
        RotatingFileHandler.doRollover = _rotate

    def update(self, name: str) -> bool:
        """Give group NAME the programs that it has in the configuration read last (supervisor.reloadConfig).

        New programs start as the configuration says; the others go on. A program that leaves must have ended.
        """
        options, group = self._supervisord.options, self._supervisord.process_groups.get(name)
        wanted = next((one for one in options.process_group_configs if one.name == name), None)
        if group is None or wanted is None:
            raise RPCError(Faults.BAD_NAME, name)
        configs = {one.name: one for one in wanted.process_configs}
        leaving = group.processes.keys() - configs.keys()
        if any(group.processes[one].get_state() not in STOPPED_STATES for one in leaving):
            raise RPCError(Faults.STILL_RUNNING, name)
        for one in leaving:
            del group.processes[one]
        self._room_for_files(options.minfds)
        for one in configs.keys() - group.processes.keys():
            configs[one].create_autochildlogs()
            group.processes[one] = configs[one].make_process(group)
        group.config = wanted
        return True

    def keepPorts(self, first: int, last: int) -> str:  # noqa: N802 - named like supervisor's own methods
        """Reserve the browser ports of UIDs FIRST to LAST for their owners until supervisord ends; returns why not."""
        from fleet.model import Worker
        from fleet.operate import ports

        try:
            self._kept += ports.keep([Worker(uid=uid) for uid in range(first, last + 1)])
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def _room_for_files(self, least: int) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft < least:
            resource.setrlimit(resource.RLIMIT_NOFILE, (least, max(least, hard)))


_supervisors_rotate = RotatingFileHandler.doRollover


def _rotate(log: RotatingFileHandler) -> None:
    """Rotate LOG if it is long enough. On a full disk it cannot be closed in order: it is opened again."""
    try:
        _supervisors_rotate(log)
    except OSError:
        log.stream = open(log.baseFilename, "ab")  # noqa: PTH123, SIM115 - as supervisor opens it


def _drop(_: Handler) -> None:
    """Drop a line that cannot be logged. supervisor prints a traceback of each to standard error: a file in /run, which
    would grow without end, or one on the full disk, whose error would end supervisord.
    """
