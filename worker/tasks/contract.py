"""What a task gets and what it brings home: all that a task of your own has to know."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue

from worker.browser.interface import Browser


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a task has to work with."""

    browser: Browser
    options: Any
    """An instance of the task's Options, or the table of fleet.toml as it stands."""
    stage: Callable[[str], AbstractContextManager[None]]
    """`with context.stage("load"):` names and times a part of the task; load, search, screenshot."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a task brings home."""

    screenshot: bytes | None = None
    """PNG."""
    seen_address: str | None = None
    """The address the site saw, when the page shows it."""
    answer: dict[str, JsonValue] = field(default_factory=dict)


Task = Callable[[Context], Found]
