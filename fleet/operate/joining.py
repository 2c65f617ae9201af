"""Inside supervisord: programs that join a group that runs, and that leave it. supervisord adds only whole groups.

The workers are one group, so that they end together. supervisord.conf names this module as an RPC interface, which is
loaded with supervisord: what only one of its methods needs is imported there.
"""

from __future__ import annotations

import resource
from typing import Any

from supervisor.states import STOPPED_STATES
from supervisor.xmlrpc import Faults, RPCError


class Joining:
    """`fleet.*` beside `supervisor.*`, on the same socket of root's."""

    def __init__(self, supervisord: Any) -> None:
        self._supervisord = supervisord
        self._kept: list[int] = []

    def update(self, name: str) -> bool:
        """Group NAME has those programs that the configuration read last (supervisor.reloadConfig) gives it.

        New ones start as the configuration says; the others go on. One that leaves has to have ended.
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
        """The ports of the browsers of UIDs FIRST to LAST are their owners' until supervisord ends; or why not."""
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


def joining(supervisord: Any) -> Joining:
    """What supervisord.conf names."""
    return Joining(supervisord)
