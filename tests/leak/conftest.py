"""A scene for each isolation; prints the measured matrix at the end."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lab.net import Lab
from tests.leak import table
from tests.leak.scene import Scene, started


@pytest.fixture(scope="package")
def carrying(root: None) -> Iterator[Lab]:
    """A lab whose keys have addresses of both versions, so IPv6 has a legitimate way out."""
    made = Lab(f"l{os.getpid() % 10_000}", ipv6=True)
    made.up()
    yield made
    made.down()


@pytest.fixture(scope="package")
def stage(carrying: Lab, isolation: str) -> Iterator[Scene]:
    """The scene of one isolation."""
    with started(carrying, isolation) as made:
        yield made


@pytest.fixture
def scene(stage: Scene) -> Scene:
    """The scene with all layers in place and no tunnel for the worker."""
    stage.settle()
    return stage


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The matrix, as docs/security.md shows it."""
    for line in table.table():
        terminalreporter.write_line(line)
