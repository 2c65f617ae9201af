"""One scene for the whole tier, and the fault table as it was measured, printed at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from lab.net import Lab
from tests.faults import outcome
from tests.faults.scene import Scene, started


class Stage:
    """The scene that all faults share; one that a fault has left broken is made again for the next."""

    def __init__(self, lab: Lab, isolation: str = "uid") -> None:
        self._lab, self._isolation = lab, isolation
        self._open = ExitStack()
        self._scene: Scene | None = None

    def scene(self) -> Scene:
        """A calm scene."""
        if self._scene is not None:
            try:
                self._scene.calm()
                return self._scene
            except pytest.fail.Exception:
                self.close()
        self._scene = self._open.enter_context(started(self._lab, self._isolation))
        return self._scene

    def close(self) -> None:
        """End it."""
        self._scene = None
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
    for line in outcome.table():
        terminalreporter.write_line(line)
