"""One machine for the session, with a fleet of two workers set up as an operator does it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host import layer, world
from tests.host.installed import Installed
from tests.host.machine import Machine


@pytest.fixture(scope="session")
def access(root: None) -> Iterator[world.Access]:
    """The internet of the machine."""
    with world.standing(f"h{os.getpid() % 10_000}") as made:
        yield made


@pytest.fixture(scope="session")
def host(access: world.Access, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """It has booted, and its fleet has settings and keys, and does not run."""
    made = Machine(f"{access.lab.name}-machine", Path(tmp_path_factory.mktemp("host")), access.namespace)
    try:
        try:
            made.lay_out(layer.kept())
        except layer.NoLayer as error:
            pytest.fail(str(error), pytrace=False)
        made.boot()
        installed = Installed(made, access)
        installed.install()
        yield installed
    finally:
        made.take_down()
