"""supervisord: how the configuration begins of one that tests start by itself, and what one runs."""

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
"""The rest of [supervisord], such as its environment, comes next."""


def pids(installation: Installation) -> dict[str, int]:
    """The process of each program (`netctl`, `worker:w1101`), 0 for none. No `supervisorctl` is started for it."""
    return {one.name: one.pid for one in Supervisor(installation).states()}
