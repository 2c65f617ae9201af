"""The options and fixtures that all tiers share.

A test that needs root fails without it: a skip would hide an unchecked promise.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.vm import machine

if TYPE_CHECKING:
    from lab.net import Lab


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of every tier."""
    parser.addoption("--no-skips", action="store_true", help="a skipped test is a failure (bin/test and CI)")
    parser.addoption("--without-root", action="store_true", help="leave out the tests that need root")
    parser.addoption("--events", type=Path, help="write what happens to this file, one JSON object a line (bin/test)")
    grounds = {"action": "append", "choices": ["fake", "userspace", "kernel"], "default": []}
    isolations = {"action": "append", "choices": ["uid", "netns"], "default": []}
    parser.addoption("--isolation", **isolations, help="in which isolation tests run that are about both")
    parser.addoption("--ground", **grounds, help="what the contract tier runs on; kernel: in the vm tier alone")
    parser.addoption("--frames", type=int, default=100_000, help="how many frames the fuzz tier sends")
    parser.addoption("--examples", type=int, default=3000, help="how many mutants the hostile tier makes")
    parser.addoption("--mutations", type=int, default=3, choices=[3, 6, 30], help="pages the browser tier breaks")
    parser.addoption("--both-drivers", action="store_true", help="every page of the browser tier by both drivers")
    parser.addoption("--whole-host", action="store_true", help="every case of the host tier, before a release")
    parser.addoption("--ubuntu", metavar="MIRROR", help="the package on Ubuntu 22.04 too, from this archive")
    parser.addoption("--jobs", type=int, default=6, help="how many jobs the storm of kills is about")
    parser.addoption("--loops", type=int, default=4, help="how many loops a fleet on keys of a service does")
    parser.addoption("--rows", type=int, default=0, help="how long the queue's tables are, beside 0 and 1,000 rows")
    parser.addoption("--steps", type=int, default=400, help="how long the queue's random histories are")
    parser.addoption("--seed", type=int, default=1, help="frames and histories are the same for the same seed")


def pytest_configure(config: pytest.Config) -> None:
    """Write the event log if --events names a file, and make Hypothesis deterministic.

    The same examples each time, so a new failure comes from the change under test; `--hypothesis-seed=N` tries others.
    No deadlines, because machines are busy.
    """
    if not machine.inside():
        import hypothesis

        hypothesis.settings.register_profile("steady", derandomize=True, deadline=None)
        hypothesis.settings.load_profile("steady")
    if path := config.getoption("--events"):
        from tests.runner.events import Events

        config.pluginmanager.register(Events(path))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that uses `isolation`, itself or through fixtures, in both, unless it parametrizes that itself."""
    said = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "isolation" in metafunc.fixturenames and "isolation" not in said:
        chosen = metafunc.config.getoption("--isolation") or ["uid", "netns"]
        metafunc.parametrize("isolation", chosen, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --without-root, deselect the tests that use the fixture `root`, directly or through others."""
    if config.getoption("--without-root"):
        rooted = [item for item in items if "root" in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=rooted)
        items[:] = [item for item in items if item not in rooted]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With --no-skips, turn a skip into a failure: it would hide an unchecked promise."""
    report = yield
    if report.skipped and item.config.getoption("--no-skips"):
        report.outcome, report.longrepr = "failed", f"skipped, and a skip is a failure here: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def root() -> None:
    """The test needs root; without it the test fails."""
    if os.geteuid() != 0:
        pytest.fail("this test needs root: sudo bin/test", pytrace=False)


@pytest.fixture(scope="session")
def lab(root: None) -> Iterator[Lab]:
    """One lab for the whole session, with 3 VPN servers of 10 keys; its name is unique to this pytest process."""
    from lab.net import Lab  # heavy, and unused in the vm tier, where every import takes long

    made = Lab(f"t{os.getpid() % 10_000}")
    made.up()
    yield made
    made.down()


@pytest.fixture(scope="module")
def bare(lab: Lab) -> Iterator[Lab]:
    """The same lab, with all files of earlier fleets removed from its host."""
    from tests.inside import forget

    forget(lab)
    yield lab
    forget(lab)


@pytest.fixture(scope="session")
def traces() -> Callable[[str], list[str]]:
    """Lists what other tools can see of the lab with a given name: namespaces, mounts, processes, files."""
    import psutil

    from lab.places import LABS

    def look(name: str) -> list[str]:
        listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
        found = [line for line in listed.splitlines() if line.startswith(f"{name}-")]
        found += [line for line in Path("/proc/mounts").read_text().splitlines() if name in line.split()[1]]
        commands = (" ".join(one.info["cmdline"] or ()) + " " for one in psutil.process_iter(["cmdline"]))
        marks = (f"fleet-lab/{name}/", f"lab.site {name} ", f"{name}v1")
        found += [command for command in commands if any(mark in command for mark in marks)]
        return found + [str(path) for path in LABS.glob(f"*{name}*")]

    return look
