"""Handing in: a finished loop lies in the worker's spool, PNG first and JSON last, each durable or not there."""

from __future__ import annotations

import contextlib
from pathlib import Path

from fleet import spool
from fleet.files import write_durably
from fleet.result import Result


class Spool:
    """One worker's folder of finished loops."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for half in folder.glob(".*.new"):  # an earlier life ended in the middle of a write
            with contextlib.suppress(IsADirectoryError):
                half.unlink()

    def last_loop(self, run: str) -> int:
        """The highest loop of RUN that was handed in, 0 when none was."""
        return spool.last_loop(self.folder, run)

    def put_screenshot(self, name: str, png: bytes) -> None:
        """Durable under NAME; nobody looks at it before its JSON is there."""
        write_durably(self.folder / name, png)

    def put(self, result: Result) -> None:
        """Durable: the loop is handed in."""
        write_durably(self.folder / f"{result.file_stem}.json", result.model_dump_json().encode())
