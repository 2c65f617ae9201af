"""supervisord in tests: the beginning of its configuration where tests start it alone, and its programs' pids."""

from __future__ import annotations

from fleet.programs import Installation
from fleet.supervise import Supervisor

CONFIGURED = """
[unix_http_server]
file={socket}
chmod=0700
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisord]
nodaemon=true
user=root
logfile={root}/supervisord.log
childlogdir={root}
pidfile={root}/supervisord.pid
"""
"""A test appends the rest of [supervisord], such as its environment."""


def pids(installation: Installation) -> dict[str, int]:
    """The pid of each program (`netctl`, `worker:w1101`), 0 if it does not run; asked without `supervisorctl`."""
    return {one.name: one.pid for one in Supervisor(installation).states()}
