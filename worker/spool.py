"""Handing in: a finished loop lies in the worker's spool, PNG first and JSON last, each durable or not there."""

from __future__ import annotations

from pathlib import Path

from fleet.result import Result, read_spool, write_durably


class Spool:
    """One worker's folder of finished loops."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for half in folder.glob(".*.new"):
            half.unlink()  # an earlier life ended in the middle of a write

    def last_loop(self, run: str) -> int:
        """The highest loop of RUN that was handed in, 0 when none was."""
        return max((result.loop for result in read_spool(self.folder, run)), default=0)

    def put_screenshot(self, name: str, png: bytes) -> None:
        """Durable under NAME; nobody looks at it before its JSON is there."""
        write_durably(self.folder / name, png)

    def put(self, result: Result) -> None:
        """Durable: the loop is handed in."""
        write_durably(self.folder / f"{result.file_stem}.json", result.model_dump_json().encode())
