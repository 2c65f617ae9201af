"""One virtual machine for the session, with a small fleet set up as an operator does it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.run import Changes
from tests.host import layer, world
from tests.host.installed import Installed
from tests.hostvm.machine import VirtualMachine
from tests.kept import NotMade
from tests.vm import kernel_package

SLOW: Changes = {
    "loop": {"pause_seconds": 4},
    "workers": {"memory_mebibytes": 900},
    "wireguard": {"backend": "kernel", "handshake_timeout_seconds": 30},
    "netctl": {"request_deadline_seconds": 100},
    "egress": {"timeout_seconds": 60},
    "browser": {"start_timeout_seconds": 300, "page_load_timeout_seconds": 300, "starts_at_once": 1},
    "task.options": {"wait_seconds": 200},
}
"""A browser needs 20 s for its start here, and a page as long; two at once need more than ChromeDriver waits for."""


@pytest.fixture(scope="session")
def access(root: None) -> Iterator[world.Access]:
    """The internet of the machine."""
    with world.standing(f"v{os.getpid() % 10_000}") as made:
        yield made


@pytest.fixture(scope="session")
def host(access: world.Access, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """It has booted, and its fleet has settings and keys, and does not run."""
    folder = Path(tmp_path_factory.mktemp("hostvm"))
    try:
        kept, kernel = layer.kept(), kernel_package.ready()
    except NotMade as error:
        pytest.fail(str(error), pytrace=False)
    made = VirtualMachine(f"{access.lab.name}-machine", folder, access.namespace, kernel)
    try:
        made.lay_out(kept)
        made.boot()
        installed = Installed(made, access, 1, SLOW)
        installed.install()
        yield installed
    finally:
        made.take_down()
