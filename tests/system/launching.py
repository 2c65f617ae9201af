"""A worker's account, and programs started as it through the real launcher inside a lab's host."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from fleet.model import BrowserSettings, DnsSettings, EgressSettings, Fleet, Paths, Worker, WorkersSettings
from fleet.operate import accounts, folders
from lab import run
from lab.net import Lab
from tests.inside import scripts
from worker import prepare
from worker.browser.interface import Installed

UID = 1191
ISP_RESOLVER = "198.51.100.53"
DEADLINE_SECONDS = 60


class Stage:
    """Everything that is there before a worker is launched, in one LAB's host, without any tunnel.

    FLEET, if given, has a tunnel of its own; PREFIX is put before every command inside the host.
    """

    def __init__(self, lab: Lab, fleet: Fleet | None = None, prefix: Sequence[str] = ()) -> None:
        self.lab, self.prefix = lab, prefix
        self.paths: Paths = run.paths(lab)
        self.fleet = fleet or Fleet(
            workers=WorkersSettings(count=1, first_uid=UID),
            dns=DnsSettings.model_validate({"resolvers": [ISP_RESOLVER]}),
            egress=EgressSettings(urls=("https://shop.example/ip",)),
            browser=BrowserSettings(certificate_authorities=(lab.places.authority,)),
        )
        self.worker: Worker = self.fleet.members[0]
        accounts.ensure(self.fleet)
        for folder in folders.wanted(self.fleet, self.paths):
            folders.make(folder)
        folders.gate_files(self.paths, 1)
        self.launcher = run.program("launcher")
        self.scripts = self.paths.root / "scripts"
        self.scripts.mkdir(exist_ok=True)

    def installed(self, driver: str) -> Installed:
        settings = BrowserSettings.model_validate({"driver": driver})
        return prepare.find(settings, run.HOME_DIRECTORY)

    def spec(self, argv: list[str], *, driver: str = "undetected", **changes: Any) -> Path:
        """A launch spec that ends in ARGV instead of `worker run`."""
        installed = self.installed(driver)
        spec = prepare.launch_spec(self.fleet, self.paths, self.worker, installed, prepare.etc_files(self.fleet))
        spec.environment.update(RELEASE=str(Path(self.launcher[2]).parent), BROWSER_DRIVER=driver)
        path = self.scripts / "spec.json"
        path.write_text(replace(spec, argv=argv, **changes).as_json())
        return path

    def python(self, text: str) -> list[str]:
        """The command that runs TEXT as the worker; `import` finds this release."""
        path = self.scripts / "script.py"
        path.write_text(f"import os, sys\nsys.path.insert(0, os.environ['RELEASE'])\n{text}")
        return [self.launcher[0], "-I", str(path)]

    def run(self, argv: list[str], **changes: Any) -> subprocess.CompletedProcess[str]:
        """Launch ARGV as the worker and wait for its end."""
        command = [*self.prefix, *self.launcher, str(self.spec(argv, **changes))]
        return self.lab.run("host", command, timeout=DEADLINE_SECONDS)

    def popen(self, argv: list[str], **changes: Any) -> subprocess.Popen[str]:
        """Launch ARGV as the worker, with pipes to talk over."""
        command = [*self.prefix, *self.launcher, str(self.spec(argv, **changes))]
        return self.lab.popen("host", command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def processes(self) -> list[psutil.Process]:
        """Every live process of the worker's UID, zombies left out."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.uids().real == self.worker.uid and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def wait_for_none(self, seconds: float) -> list[psutil.Process]:
        """Processes of the UID that are still there after SECONDS; none, usually."""
        _, alive = psutil.wait_procs(self.processes(), timeout=seconds)
        return [process for process in alive if self._is_ours(process)]


class Puppet:
    """A browser session in a launched worker process, moved from outside a command at a time."""

    def __init__(self, stage: Stage, driver: str, *, settings: dict[str, Any] | None = None, **changes: Any) -> None:
        puppet = scripts(stage.lab) / "tests/programs/puppet.py"
        authorities = [str(path) for path in stage.fleet.browser.certificate_authorities]
        wanted = {"driver": driver, "certificate_authorities": authorities, **(settings or {})}
        argv = [stage.launcher[0], "-I", str(puppet), json.dumps(wanted), str(stage.paths.gate)]
        self.process = stage.popen(argv, driver=driver, **changes)
        self.started = self._answer()

    def __call__(self, method: str, *arguments: Any, **keywords: Any) -> Any:
        """Call METHOD of the session; an error of it comes back as {"error": name, ...}."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([method, arguments, keywords]) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the puppet has died"
        return json.loads(line)

    def kill(self) -> None:
        """SIGKILL, as the kernel's memory killer would."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def end(self) -> None:
        """Close its input and wait: it closes the browser and ends."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


def puppets(stage: Stage, driver: str) -> Iterator[Puppet]:
    """One puppet for a fixture, ended afterwards."""
    puppet = Puppet(stage, driver)
    yield puppet
    puppet.end()
    assert not stage.wait_for_none(10)
