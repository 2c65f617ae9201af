"""Which tests of this tier run."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Ubuntu's is for whoever names a mirror."""
    if not config.option.ubuntu:
        asked = [item for item in items if item.path.name == "test_ubuntu.py"]
        config.hook.pytest_deselected(items=asked)
        items[:] = [item for item in items if item not in asked]
