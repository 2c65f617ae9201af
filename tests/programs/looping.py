"""The loop of a worker whose netctl refuses every tunnel: FLEET_ROOT says where, its one argument which worker."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fleet import log, snapshot
from fleet.errors import NotAllowed
from fleet.model import Paths
from tests.unit.test_worker_tunnel import Daemon
from worker.browser.interface import Installed
from worker.loop import Loop
from worker.tasks.registry import resolve

paths = Paths.from_environment()
fleet = snapshot.read(paths.snapshot).fleet
worker = fleet.worker(sys.argv[1])
os.setgroups([])
os.setresgid(worker.uid, worker.uid, worker.uid)
os.setresuid(worker.uid, worker.uid, worker.uid)
log.configure()
daemon = Daemon(paths.netctl_socket)
daemon.leases.refuse = NotAllowed
daemon.start()
installed = Installed(browser=Path("/none"), driver=Path("/none"), version="1.0")
Loop(fleet, paths, worker, installed, resolve(fleet.task)).run(None)
