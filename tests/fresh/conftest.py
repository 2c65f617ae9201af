"""The bare root is begun before the session's first test."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.ahead import Ahead
from tests.fresh import bare

ROOT = Ahead(Path(__file__).resolve().parent, bare.begun)


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Have it begun, and gone at the end."""
    with ROOT.of(session):
        return (yield)


@pytest.fixture
def bare_root() -> Path:
    """A Debian 12 root with nothing in it."""
    if os.geteuid() != 0:
        pytest.fail("the fresh tier needs root: sudo bin/test --tier fresh")
    try:
        return ROOT.get().ready()
    except bare.NoRoot as error:
        pytest.fail(str(error), pytrace=False)
