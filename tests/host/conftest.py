"""One machine for the session, with a small fleet that is set up as an operator does it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host import layer, world
from tests.host.installed import Installed
from tests.host.machine import Machine
from tests.kept import NotMade


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the cases that run only before a release."""
    if not config.option.whole_host:
        slow = [item for item in items if item.get_closest_marker("whole_host")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


@pytest.fixture(scope="session")
def access(root: None) -> Iterator[world.Access]:
    """The internet of the machine."""
    with world.standing(f"h{os.getpid() % 10_000}") as made:
        yield made


@pytest.fixture(scope="session")
def host(
    access: world.Access, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[Installed]:
    """The machine has booted; its fleet has settings and keys, and does not run."""
    made = Machine(f"{access.lab.name}-machine", Path(tmp_path_factory.mktemp("host")), access.namespace)
    try:
        try:
            made.lay_out(layer.kept())
        except NotMade as error:
            pytest.fail(str(error), pytrace=False)
        made.boot()
        installed = Installed(made, access, count=2 if pytestconfig.option.whole_host else 1)
        installed.install()
        yield installed
    finally:
        made.take_down()
