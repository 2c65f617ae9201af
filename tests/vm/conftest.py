"""The machine is started before the session's first test and works beside the others; its own test runs last."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kept import NotMade
from tests.vm import kernel_package, machine

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
SETTINGS = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "NO_COLOR": "1",
    "TMPDIR": "/run",  # below /tmp other tests make and remove things meanwhile
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # each takes seconds to import here
    # Writes go to memory and are lost; compiling for them is time spent for nothing.
    "PYTHONDONTWRITEBYTECODE": "1",
}
PYTEST = (sys.executable, "-m", "pytest", "--ground=kernel", "--durations=5")
MACHINE = pytest.StashKey[machine.Running | NotMade]()


def contracts() -> list[str]:
    """The files that ask for a ground, and those of the machine alone. To import the others takes a minute here."""
    files = sorted((CHECKOUT / "tests/contract").glob("test_*.py"))
    return [str(path) for path in files if path.name in machine.ALONE or "ground: Ground" in path.read_text()]


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Have it started if its test is to run, and gone at the end."""
    with ExitStack() as stack:
        if not session.config.option.collectonly and any(item.path.parent == HERE for item in session.items):
            try:
                started = machine.started(kernel_package.ready(), (*PYTEST, *contracts()), CHECKOUT, SETTINGS)
                session.stash[MACHINE] = stack.enter_context(started)
            except NotMade as error:
                session.stash[MACHINE] = error
        return (yield)


@pytest.fixture
def running(root: None, request: pytest.FixtureRequest) -> machine.Running:
    """The machine, with the contract suite under way in it."""
    found = request.session.stash[MACHINE]
    if isinstance(found, NotMade):
        pytest.fail(str(found), pytrace=False)
    return found
