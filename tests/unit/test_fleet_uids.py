"""Whose the processes under a worker's UID are: what they say of themselves counts for nothing."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.errors import ConfigurationError
from fleet.model import Fleet, Paths
from fleet.operate import configuration, prepare
from fleet.programs import Installation

SETTINGS = """
[workers]
count = 1
first_uid = 4111
[dns]
resolvers = ["198.18.0.53"]
[egress]
urls = ["https://a/"]
"""
AS_WORKER = "setpriv --reuid=4111 --regid=65534 --clear-groups env FLEET_ROOT=/elsewhere sh -c 'echo up; exec cat'"


@pytest.fixture
def fleet() -> Fleet:
    """A fleet of one worker."""
    return configuration.parse(SETTINGS, "test")


@contextlib.contextmanager
def at_work(**environment: str) -> Iterator[None]:
    """A process of the worker's UID that names another fleet; its parent is root's, with this ENVIRONMENT."""
    words = ["sh", "-c", f"{AS_WORKER}; true"]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment}
    with subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as made:
        assert made.stdout is not None and made.stdout.readline() == "up\n"
        yield
        made.communicate("")


def test_a_survivor_cannot_say_that_it_is_another_fleets(root: None, fleet: Fleet, tmp_path: Path) -> None:
    """FLEET_ROOT in the environment of a worker's process keeps nobody from starting this fleet."""
    with at_work():
        prepare.uids_are_free(fleet, Installation(paths=Paths(root=tmp_path)))


def test_another_fleet_is_known_by_its_root_process(root: None, fleet: Fleet, tmp_path: Path) -> None:
    """Below a process of root that works for another FLEET_ROOT the UID is that fleet's, and is named."""
    with at_work(FLEET_ROOT="/elsewhere"), pytest.raises(ConfigurationError, match="of the fleet in /elsewhere"):
        prepare.uids_are_free(fleet, Installation(paths=Paths(root=tmp_path)))
