"""Which tests run together: jobs that give an early verdict, then shares of files that take about as long."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.runner.jobs import Job
from tests.runner.shares import CHECKOUT, UNKNOWN_SECONDS, durations, expected_seconds, shared

ALONE = str(CHECKOUT / "tests/runner/alone.sh")
FIRST = ("lint", "unit", "contract", "3.10")
SHARDED = ("fuzz", "hostile", "netns", "leak", "faults", "browser", "system", "fresh", "host", "vm")
"""In the order in which a shard runs them: the virtual machine works beside the others, its test waits for its end."""
RELEASE = ("hostvm",)
"""Run where they are asked for: before a release."""
RULES = ["tests/test_layers.py", "tests/test_repo.py"]
TYPED = ("fleet", "netctl", "launcher", "worker", "hub", "keyservice", "lab", "tests", "bench", "launch.py")
COMPILE = ("-m", "compileall", "-qq", *TYPED)
"""Before hundreds of processes do it, each for itself: PYTHONDONTWRITEBYTECODE may be set here."""
OLDEST = (3, 10)
"""The Python of Ubuntu 22.04."""
LEAST_DEADLINE_SECONDS = 900.0
TIMED = ("tests/unit/test_rpc_attacks.py",)
"""Judges times, which the version of Python is not about; two of them at once would judge one another."""
TREE = (*RULES, "tests/unit/test_runner.py")
"""Are about the tree and this runner, whichever Python reads them."""
EXAMPLES = ("tests/unit/test_netctl_properties.py", "tests/unit/test_netctl_plan.py")
"""Hundreds of examples of what netctl plans, the same whichever Python makes them."""
DATABASES = tuple(f"tests/contract/test_hub_{name}.py" for name in ("history", "plans", "politeness", "page"))
"""Are about what databases do, and a page in a browser, whichever Python asks them."""
PREPARED = {
    "vm": ("tests.vm.kernel_package",),
    "fresh": ("tests.fresh.bare",),
    "host": ("tests.host.layer",),
    "hostvm": ("tests.host.layer", "tests.vm.kernel_package"),
}
"""What a tier needs from the package registries, which no shard can reach."""
WHOLE_HOST = ("tests.host.browsers",)
"""The same, with `--whole-host`."""
PREPARED_SECONDS = 900.0
"""On a new machine, most of it spent waiting for the network; so it is begun first."""


@dataclass(frozen=True)
class Plan:
    """The jobs of a run."""

    tiers: tuple[str, ...]
    names: tuple[str, ...]
    """Files of tests, or tests in them, beside those of the tiers."""
    arguments: tuple[str, ...]
    """For pytest."""
    python: str
    shards: int
    rootless: bool
    """What needs root is left out."""
    patience: float
    """How many times longer than expected a job may take."""
    notes: list[str] = field(default_factory=list)
    """What is not checked on this machine."""

    def jobs(self) -> list[Job]:
        """What gives the early verdict, and what the rest needs; then the rest."""
        prepared = self._prepared()
        made = frozenset(job.name for job in prepared)
        early = [replace(job, early=True) for job in (*prepared, *self._first())]
        return [*early, *(replace(job, after=made) for job in self._rest())]

    def _prepared(self) -> list[Job]:
        touched = {*self.tiers, *map(tier_of, self.names)}
        prepared = dict.fromkeys(module for tier, modules in PREPARED.items() if tier in touched for module in modules)
        more = WHOLE_HOST if "--whole-host" in self.arguments else ()
        return [Job(module, (self.python, "-m", module), PREPARED_SECONDS) for module in (*prepared, *more)]

    def _first(self) -> list[Job]:
        return [
            *(self._lint() if "lint" in self.tiers else []),
            *self._tests("part", [*self._files("unit"), *self._files("contract")]),
            *(self._oldest() if "3.10" in self.tiers else []),
        ]

    def _rest(self) -> list[Job]:
        demo = (ALONE, "bin/demo", "--workers", "2", "--loops", "1", "--report", "/run/report")
        names = [*self.names, *(name for tier in (*SHARDED, *RELEASE) for name in self._files(tier))]
        return [*self._tests("shard", names), *([_step("demo", *demo)] if "demo" in self.tiers else [])]

    def _files(self, tier: str) -> list[str]:
        return files(tier) if tier in self.tiers else []

    def _tests(self, title: str, names: Sequence[str], python: str = "", before: Sequence[str] = ()) -> list[Job]:
        shares = enumerate(shared(names, self.shards, durations()), 1)
        return [self._pytest(f"{title} {number}", python or self.python, share, before) for number, share in shares]

    def _pytest(self, name: str, python: str, names: Sequence[str], before: Sequence[str]) -> Job:
        rootless = ("--without-root", "--ground=fake") if self.rootless else ("--no-skips",)
        alone = (ALONE,) if os.geteuid() == 0 else ()
        argv = (*before, *alone, python, "-m", "pytest", *rootless, *names, *self.arguments)
        seconds = expected_seconds(names, durations())
        deadline = max(LEAST_DEADLINE_SECONDS, self.patience * seconds)
        return Job(name, argv, seconds, tells=True, deadline_seconds=deadline)

    def _lint(self) -> list[Job]:
        ruff, mypy = (self.python, "-m", "ruff"), (self.python, "-m", "mypy")
        scripts = [_step("shellcheck", "shellcheck", *_shell_files())]
        if self.rootless and not shutil.which("shellcheck"):
            self.notes.append("NOT CHECKED: shell scripts; shellcheck is not on this machine")
            scripts = []
        return [
            _step("ruff", *ruff, "check", "--no-cache", "."),
            _step("format", *ruff, "format", "--no-cache", "--check", "."),
            _step("mypy", *mypy, "--no-error-summary", "--explicit-package-bases", *TYPED),
            *scripts,
        ]

    def _oldest(self) -> list[Job]:
        if sys.version_info[:2] == OLDEST:
            return []  # the other jobs run on it
        if not (python := _oldest_python()):
            self.notes.append("NOT CHECKED: the promise for Ubuntu 22.04; no Python 3.10 is on this machine")
            return []
        # Also what this tier shows: whoever leaves undetected-chromedriver out misses nothing else.
        setup = ("bin/setup", "--dev", "--without-undetected", "--python", python)
        environment = _output(*setup, "--print-environment")
        compiled = f"{environment}/bin/python {' '.join(COMPILE)} || :"
        build = ("sh", "-euc", f'{" ".join(setup)} --environment-only; {compiled}; exec "$@"', "sh")
        both = [*files("unit"), *files("contract")]
        names = [name for name in both if name not in (*TIMED, *TREE, *EXAMPLES, *DATABASES)]
        return self._tests("3.10", names, f"{environment}/bin/python", build)


def tier_of(name: str) -> str:
    """The tier of a file of tests, or of a test in it."""
    parts = name.partition("::")[0].split("/")
    return parts[1] if len(parts) > 2 else "unit"


def files(tier: str) -> list[str]:
    """The files of tests of a tier."""
    found = sorted(str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "tests" / tier).glob("test_*.py"))
    return [*(RULES if tier == "unit" else ()), *found]


def _step(name: str, *argv: str) -> Job:
    return Job(name, argv, durations().get(name, UNKNOWN_SECONDS))


def _shell_files() -> list[str]:
    places = (path for folder in ("bin", ".ci", "deploy", "tests") for path in (CHECKOUT / folder).rglob("*"))
    scripts = (path for path in places if path.is_file() and path.read_bytes()[:9] in (b"#!/bin/sh", b"#!/bin/ba"))
    return sorted({str(path.resolve()) for path in scripts})


def _oldest_python() -> str | None:
    name = "python{}.{}".format(*OLDEST)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    places = [shutil.which(name), *sorted(str(path) for path in pyenv.glob(f"*/bin/{name}"))]
    # pyenv's own `python3.10` on PATH is a script that fails where no 3.10 was chosen.
    return next((path for path in places if path and _works(path)), None)


def _works(python: str) -> bool:
    return subprocess.run([python, "-c", "import ensurepip"], capture_output=True, check=False).returncode == 0


def _output(*argv: str) -> str:
    return subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.strip()
