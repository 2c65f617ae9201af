"""docs/security.md and the tests agree: each test it names is there, each fault of the tier stands in its tables."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.faults.test_faults import FAULTS
from tests.faults.test_health_faults import FAULTS as HEALTH_FAULTS
from tests.faults.test_space_faults import FAULTS as SPACE_FAULTS
from tests.faults.test_store_faults import NAMES
from tests.leak.states import STATES
from tests.leak.table import ALL_ROWS

CHECKOUT = Path(__file__).resolve().parents[2]
DOCUMENT = (CHECKOUT / "docs/security.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", DOCUMENT)


def first_column(heading: str) -> list[str]:
    """The first cells of the table whose head begins with HEADING."""
    _, head, rest = DOCUMENT.partition(f"\n{heading}")
    assert head, f"there is no table with the head {heading}"
    lines = rest.splitlines()[2:]
    rows = lines[: next(number for number, line in enumerate(lines) if not line.startswith("|"))]
    return [row.split("|")[1].strip() for row in rows]


def functions(path: Path) -> set[str]:
    """The functions of a Python file."""
    return {
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_test_it_names_is_there() -> None:
    """A promise names the test that shows it, and that test exists."""
    assert len(NAMED) > 20
    missing = [f"{path}::{name}" for path, name in NAMED if name not in functions(CHECKOUT / path)]
    assert missing == []


def test_every_promise_has_a_test() -> None:
    """Each line of the table of promises names one at least."""
    table = DOCUMENT.partition("| promise | test |")[2].partition("\n\n")[0].splitlines()[2:]
    assert table
    assert [line for line in table if "::test_" not in line] == []


def test_the_fault_tables_are_the_tiers() -> None:
    """What is said and what was measured stand for the same faults as the tests, none more and none less."""
    tested = {fault.name for fault in (*FAULTS, *HEALTH_FAULTS, *SPACE_FAULTS)} | set(NAMES)
    assert set(first_column("| fault | what is done")) == tested
    assert set(first_column("| fault | leak |")) == tested


def test_the_leak_matrix_is_the_tiers() -> None:
    """Both tables have the tier's probes as rows and its states as columns, and no cell but zeros."""
    tables = re.findall(r"\n\| probe \|(.*)\|\n\|[-|]+\|\n((?:\|.*\n)+)", DOCUMENT)
    assert len(tables) == len(("uid", "netns"))
    for head, body in tables:
        assert [cell.strip() for cell in head.split("|")] == [*STATES, "control"]
        rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in body.splitlines()]
        assert [row[0] for row in rows] == list(ALL_ROWS)
        assert {cell.partition("/")[0] for row in rows for cell in row[1:-1]} == {"0", "-"}
