"""Runs as Parquet, by DuckDB: rows in, a file out; memory use does not grow with their number."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from pydantic import JsonValue

from fleet.errors import MissingProgram

_TYPES = {
    **dict.fromkeys(("job", "fence"), "BIGINT"),
    **dict.fromkeys(("key", "site", "task", "outcome", "worker", "host", "exit"), "VARCHAR"),
    **dict.fromkeys(("began_at", "ended_at"), "TIMESTAMPTZ"),
    "error": "VARCHAR",
    **dict.fromkeys(("arguments", "answer", "details"), "JSON"),
}


@contextlib.contextmanager
def parquet(runs: Iterable[Mapping[str, JsonValue]]) -> Iterator[BinaryIO]:
    """RUNS as an open file. Raises MissingProgram without the library."""
    try:
        import duckdb
    except ImportError:
        raise MissingProgram("Parquet needs a library that is not installed", hint="sudo bin/setup --extras") from None
    with tempfile.TemporaryDirectory(prefix="fleet-export-", dir="/var/tmp") as name:
        lines, made = Path(name) / "runs.jsonl", Path(name) / "runs.parquet"
        with lines.open("w", encoding="utf-8", errors="backslashreplace") as file:
            for run in runs:
                file.write(json.dumps({key: run[key] for key in _TYPES}) + "\n")
        # Fixed types, because the first rows, or none, do not show the types of the others.
        columns = ", ".join(f"{column}: '{kind}'" for column, kind in _TYPES.items())
        with duckdb.connect(config={"temp_directory": name, "autoinstall_known_extensions": "false"}) as db:
            db.execute(
                f"COPY (SELECT * FROM read_json('{lines}', format = 'newline_delimited', columns = {{{columns}}})) "  # noqa: S608 - our own words
                f"TO '{made}' (FORMAT parquet, COMPRESSION zstd)"
            )
        with made.open("rb") as found:
            yield found
