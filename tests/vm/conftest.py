"""The machine is started before the session's first test."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.ahead import Ahead
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
PYTEST = (
    sys.executable,
    "-m",
    "pytest",
    "-p",
    "no:cacheprovider",
    "--ground=kernel",
    "--durations=5",
    "tests/contract",
)


def _started() -> AbstractContextManager[machine.Running]:
    return machine.started(kernel_package.ready(), PYTEST, CHECKOUT, SETTINGS)


MACHINE = Ahead(HERE, _started)


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Have it started, and gone at the end."""
    with MACHINE.of(session):
        return (yield)


@pytest.fixture
def running(root: None) -> machine.Running:
    """The machine, with the contract suite under way in it."""
    try:
        return MACHINE.get()
    except kernel_package.NoKernel as error:
        pytest.fail(str(error), pytrace=False)
