"""One scene for the whole tier, and the fault table as it was measured, printed at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from lab.net import Lab
from tests.faults import judge
from tests.faults.scene import Scene, started


class Stage:
    """The scene that faults share, of one isolation at a time; one that a fault has left broken is made again."""

    def __init__(self, lab: Lab) -> None:
        self._lab, self._open, self._scene = lab, ExitStack(), dict[str, Scene]()

    def scene(self, isolation: str = "uid") -> Scene:
        """A calm scene."""
        if isolation in self._scene:
            with contextlib.suppress(pytest.fail.Exception):
                self._scene[isolation].calm()
                return self._scene[isolation]
        self.close()
        self._scene[isolation] = self._open.enter_context(started(self._lab, isolation))
        return self._scene[isolation]

    def close(self) -> None:
        """End it."""
        self._scene.clear()
        self._open.close()


@pytest.fixture(scope="package")
def stage(lab: Lab) -> Iterator[Stage]:
    """The tier's stage."""
    made = Stage(lab)
    yield made
    made.close()


@pytest.fixture
def scene(stage: Stage) -> Scene:
    """Two workers at work, everything as it should be."""
    made = stage.scene()
    made.capture.lines()
    return made


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The measured table, as docs/security.md shows it."""
    for line in judge.TABLE if len(judge.TABLE) > 2 else ():
        terminalreporter.write_line(line)
