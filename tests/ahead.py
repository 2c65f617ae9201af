"""What a tier waits for and one core can do alone: begun before the session's first test, while other tiers run.

bin/test has those tiers in front that mind a busy core least.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Generic, TypeVar

import pytest

T = TypeVar("T")


class Ahead(Generic[T]):
    """What BEGIN gives, for the tests in FOLDER; what keeps it from beginning is theirs to tell."""

    def __init__(self, folder: Path, begin: Callable[[], AbstractContextManager[T]]) -> None:
        self._folder, self._begin = folder, begin
        self._begun: T | Exception | None = None

    @contextmanager
    def of(self, session: pytest.Session) -> Iterator[None]:
        """Begun, if such a test is to run; left, it is gone, whatever has come of it."""
        wanted = any(item.path.parent == self._folder for item in session.items)
        with ExitStack() as stack:
            if wanted and not session.config.option.collectonly:
                try:
                    self._begun = stack.enter_context(self._begin())
                except Exception as error:  # noqa: BLE001 - raised again where a test asks for it
                    self._begun = error
            yield

    def get(self) -> T:
        """What was begun; raises what kept it from that."""
        assert self._begun is not None, "no session has begun it"
        if isinstance(self._begun, Exception):
            raise self._begun
        return self._begun
