"""Programs started as a worker through the real launcher inside a lab's host."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from fleet.model import BrowserSettings
from lab import run
from lab.net import Lab
from tests.fleets import Host
from tests.inside import PIPES, Client, scripts
from worker import prepare
from worker.browser.interface import Installed

UID = 1191
ISP_RESOLVER = "198.51.100.53"
DEADLINE_SECONDS = 60


class Stage:
    """What must exist before the first worker of HOST is launched; by default HOST is a lab's host without tunnels.

    PREFIX is put before every command inside the host.
    """

    def __init__(self, lab: Lab, host: Host | None = None, prefix: Sequence[str] = ()) -> None:
        host = host or Host(lab, first_uid=UID, changes={"dns": {"resolvers": [ISP_RESOLVER]}})
        host.lay_out()
        self.lab, self.paths, self.fleet, self.worker = lab, host.paths, host.fleet, host.worker()
        self.scripts, self.prefix, self.launcher = scripts(lab), prefix, host.installation.launcher()
        self.release = str(host.installation.release)

    def installed(self, driver: str) -> Installed:
        settings = BrowserSettings.model_validate({"driver": driver})
        return prepare.find(settings, run.HOME_DIRECTORY)

    def spec(self, argv: list[str], *, driver: str = "undetected", **changes: Any) -> Path:
        """A launch spec that ends in ARGV instead of `worker run`."""
        installed = self.installed(driver)
        spec = prepare.launch_spec(self.fleet, self.paths, self.worker, installed, prepare.etc_files(self.fleet))
        spec.environment.update(RELEASE=self.release, BROWSER_DRIVER=driver)
        path = self.scripts / "spec.json"
        path.write_text(spec._replace(argv=argv, **changes).as_json())
        return path

    def python(self, text: str) -> list[str]:
        """The command that runs TEXT as the worker; `import` finds this release."""
        path = self.scripts / "script.py"
        path.write_text(f"import os, sys\nsys.path.insert(0, os.environ['RELEASE'])\n{text}")
        return [self.launcher[0], "-I", str(path)]

    def command(self, argv: list[str], **changes: Any) -> list[str]:
        """The command line that launches ARGV as the worker."""
        return [*self.prefix, *self.launcher, str(self.spec(argv, **changes))]

    def run(self, argv: list[str], **changes: Any) -> subprocess.CompletedProcess[str]:
        """Launch ARGV as the worker and wait for its end."""
        return self.lab.run("host", self.command(argv, **changes), timeout=DEADLINE_SECONDS)

    def popen(self, argv: list[str], **changes: Any) -> subprocess.Popen[str]:
        """Launch ARGV as the worker, with pipes to talk over."""
        return self.lab.popen("host", self.command(argv, **changes), **PIPES)

    def processes(self) -> list[psutil.Process]:
        """Every live process of the worker's UID, zombies left out."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.uids().real == self.worker.uid and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def wait_for_none(self, seconds: float) -> list[psutil.Process]:
        """Wait up to SECONDS until the UID has no process; returns those that are left."""
        _, alive = psutil.wait_procs(self.processes(), timeout=seconds)
        return [process for process in alive if self._is_ours(process)]


class Puppet(Client):
    """A browser session in a launched worker process, controlled from outside, one command at a time."""

    def __init__(self, stage: Stage, driver: str, *, settings: dict[str, Any] | None = None, **changes: Any) -> None:
        authorities = [str(path) for path in stage.fleet.browser.certificate_authorities]
        wanted = {"driver": driver, "certificate_authorities": authorities, **(settings or {})}
        puppet = ["-I", str(stage.scripts / "tests/programs/puppet.py"), json.dumps(wanted)]
        super().__init__(stage.popen([stage.launcher[0], *puppet], driver=driver, **changes))
        self.started = self.answer()

    def __call__(self, method: str, *arguments: Any, **keywords: Any) -> Any:
        """Call METHOD of the session; an error of it comes back as {"error": name, ...}."""
        return self.ask(method=method, arguments=arguments, keywords=keywords)

    def end(self) -> None:
        """Close its standard input, and wait until it has closed the browser and ended."""
        with self.process:
            assert self.process.stdin
            self.process.stdin.close()
            self.process.wait(20)


def puppets(stage: Stage, driver: str) -> Iterator[Puppet]:
    """One puppet for a fixture, ended afterwards."""
    puppet = Puppet(stage, driver)
    yield puppet
    puppet.end()
    assert not stage.wait_for_none(10)
