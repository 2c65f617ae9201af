"""What every tier shares: a skip is a failure where it is asked for, each tier's time is shown, one lab.

What needs root fails without it: a skip would hide a promise nobody checked.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from lab.net import Lab

# The same examples each time: what a change breaks is told by that change. `--hypothesis-seed=N` looks
# further. No deadlines: machines are busy.
hypothesis.settings.register_profile("steady", derandomize=True, deadline=None)
hypothesis.settings.load_profile("steady")

_skipped = pytest.StashKey[list[str]]()
_seconds = pytest.StashKey["Counter[str]"]()
_config: list[pytest.Config] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --no-skips, --ground and --isolation."""
    parser.addoption("--no-skips", action="store_true", help="a skipped test is a failure (bin/test and CI)")
    grounds = {"action": "append", "choices": ["fake", "userspace", "kernel"], "default": []}
    isolations = {"action": "append", "choices": ["uid", "netns"], "default": []}
    parser.addoption("--isolation", **isolations, help="in which isolation tests run that are about both")
    parser.addoption("--ground", **grounds, help="what the contract tier runs on; kernel: in the vm tier alone")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test that asks for an isolation, or whose fixtures do, runs in both, unless it says in which."""
    said = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "isolation" in metafunc.fixturenames and "isolation" not in said:
        chosen = metafunc.config.getoption("--isolation") or ["uid", "netns"]
        metafunc.parametrize("isolation", chosen, scope="session")


def pytest_configure(config: pytest.Config) -> None:
    """Start counting."""
    config.stash[_skipped], config.stash[_seconds] = [], Counter()
    _config[:] = [config]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count the time of every phase, and the skips."""
    config = _config[0]
    parts = report.nodeid.partition("::")[0].split("/")
    config.stash[_seconds][parts[1] if len(parts) > 2 else "rules"] += round(report.duration * 1000)
    if report.skipped:
        config.stash[_skipped].append(report.nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """A session with a skip has failed."""
    if session.config.getoption("--no-skips") and session.config.stash[_skipped]:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Each tier's seconds, and the skips that count as failures."""
    for tier, milliseconds in sorted(config.stash[_seconds].items()):
        terminalreporter.write_line(f"tier {tier}: {milliseconds / 1000:.1f} s")
    if config.getoption("--no-skips"):
        for name in config.stash[_skipped]:
            terminalreporter.write_line(f"FAILED because skipped: {name}", red=True)


@pytest.fixture(scope="session")
def root() -> None:
    """The test needs root; without it the test fails."""
    if os.geteuid() != 0:
        pytest.fail("this test needs root: sudo bin/test", pytrace=False)


@pytest.fixture(scope="session")
def lab(root: None) -> Iterator[Lab]:
    """One lab for the whole session, with 3 VPN servers of 10 keys; no other pytest has its name."""
    from lab.net import Lab  # heavy, and of no use in the vm tier, where every import takes long

    made = Lab(f"t{os.getpid() % 10_000}")
    made.up()
    yield made
    made.down()


@pytest.fixture(scope="session")
def traces() -> Callable[[str], list[str]]:
    """Everything of the lab of that name that other tools can see: namespaces, mounts, processes, files."""
    from lab.places import LABS

    def look(name: str) -> list[str]:
        listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
        found = [line for line in listed.splitlines() if line.startswith(f"{name}-")]
        found += [line for line in Path("/proc/mounts").read_text().splitlines() if name in line.split()[1]]
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                command = path.read_bytes().decode(errors="replace")
                if any(mark in command for mark in (f"fleet-lab/{name}/", f"lab.site\0{name}\0", f"{name}v1")):
                    found.append(command)
        return found + [str(path) for path in LABS.glob(f"*{name}*")]

    return look
