"""How many frames the fuzzing sends."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --frames and --seed."""
    parser.addoption(
        "--frames", type=int, default=100_000, help="frames to send (bin/test --tier fuzz --frames 1000000)"
    )
    parser.addoption("--seed", type=int, default=1, help="the frames are the same for the same seed")
