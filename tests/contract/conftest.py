"""Chooses the grounds: `--ground NAME`, repeatable; fake and userspace by default.

Each runs in both isolations if a test is about workers, not devices. Modules that the virtual machine does not need
are imported where they are used, because every import takes long there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.contract.fake_ground import FakeGround
from tests.contract.ground import Ground
from tests.vm import machine

if TYPE_CHECKING:
    from tests.postgresql import Server
    from tests.programs.owner import Server as Owner
    from tests.queues import Queue

HERE = Path(__file__).resolve().parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test that steps the clock or divides control groups exists in the virtual machine alone, however it is named.

    There, in turn, only what is about its kernel does.
    """
    inside = machine.inside()

    def stays(item: pytest.Item) -> bool:
        alone = item.path.name in machine.ALONE
        again = "-netns" in item.name and any(word in item.name for word in machine.ONCE)
        return alone or ("ground" in getattr(item, "fixturenames", ()) and not again) if inside else not alone

    left = [item for item in items if item.path.parent == HERE and not stays(item)]
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in left]


@pytest.fixture
def hook() -> Iterator[Owner]:
    """A webhook that receives alerts."""
    from tests.programs.owner import Server

    made = Server()
    yield made
    made.shutdown()
    made.server_close()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test that uses a ground on each chosen one; other grounds give no tests."""
    if "ground" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--ground") or ["fake", "userspace"]
        if metafunc.module.__name__.endswith("test_netctl_kernel"):
            chosen = [name for ground in chosen for name in (ground, f"{ground}-netns")]
        metafunc.parametrize("ground", chosen, indirect=True, scope="session")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL for the whole session."""
    from tests.postgresql import running

    with running() as server:
        yield server


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def addresses(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], str]:
    """Makes the address of an empty queue, on each engine."""
    from tests.queues import made_once

    folder = tmp_path_factory.mktemp("queues")
    return made_once(request.param, folder, lambda: request.getfixturevalue("postgresql"))


@pytest.fixture
def queue(addresses: Callable[[], str]) -> Iterator[Queue]:
    """An empty queue on each engine."""
    from tests.queues import Queue

    made = Queue(addresses())
    yield made
    made.close()


@pytest.fixture(scope="session")
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    """The requested ground, for the whole session."""
    name, _, isolation = request.param.partition("-")
    if name == "fake":
        yield FakeGround(isolation or "uid")
        return
    request.getfixturevalue("root")
    from tests.contract.wired import Wired

    with Wired(name, isolation or "uid") as made, pytest.MonkeyPatch.context() as patch:
        if name == "kernel":
            give_time(patch)
        yield made


def give_time(patch: pytest.MonkeyPatch) -> None:
    """Lengthen deadlines: the vm tier is emulated, up to a hundred times slower, and does not test deadlines."""
    from netctl import host
    from netctl.kernel import removal
    from netctl.wireguard import kernel_module

    patch.setattr(host, "CALL_SECONDS", 240.0)
    patch.setattr(removal, "DEADLINE_SECONDS", 240.0)
    patch.setattr(kernel_module, "CALL_SECONDS", 240.0)
