"""Whatever a worker's files hold, every reader goes on, shows text alone, and has its neighbour's results."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fleet import log
from fleet.model import Paths
from tests.hostile import readers
from tests.hostile.mutants import GOOD, LOGS, LOOPS, OPERATIONS, RESULTS, SPOOLS, lay, mutate
from tests.hostile.readers import NEIGHBOUR, VICTIM, screen
from tests.unit.test_fleet_verify import good

ANSWER = good().answer.model_dump_json().encode()
ANSWERS = st.builds(mutate, st.just(ANSWER), OPERATIONS)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """Two spools; in the neighbour's is a result."""
    made = readers.places(tmp_path)
    neighbours = {**GOOD, "worker": NEIGHBOUR.name, "screenshot": None}
    (made.spool(NEIGHBOUR) / "run-1-000001.json").write_text(json.dumps(neighbours))
    return made


@pytest.fixture
def many(pytestconfig: pytest.Config) -> Callable[[float], settings]:
    """Hypothesis' settings for a part of all examples."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]

    def part(share: float) -> settings:
        examples = max(50, round(pytestconfig.getoption("--examples") * share))
        return settings(
            max_examples=examples,
            suppress_health_check=checks,
            database=None,
            # What has failed is told as it is: to make it smaller takes a thousand looks more.
            phases=[Phase.generate],
            report_multiple_bugs=False,
        )

    return part


def lay_spool(paths: Paths, spool: dict[str, str | bytes]) -> None:
    """SPOOL is the victim's now."""
    folder = paths.spool(VICTIM)
    shutil.rmtree(folder)
    folder.mkdir()
    lay(folder, spool)


def named(contents: tuple[bytes, ...]) -> dict[str, str | bytes]:
    """CONTENTS in the places of results."""
    return {f"run-1-{loop:06d}.json": content for loop, content in enumerate(contents, 1)}


def looks(paths: Paths, show: readers.Show) -> None:
    """SHOW, on a terminal that is looked at."""
    with screen() as shown:
        log.configure()
        show(paths)
    assert not (found := readers.obeyed(shown.getvalue())), found


def shows_the_neighbour(paths: Paths) -> None:
    """All readers, and the victim's next life; the neighbour's result is there and its own alone."""
    board = readers.show_spools(paths)
    assert list(board.results[NEIGHBOUR.name]) == [1]
    assert set(board.results[VICTIM.name]) <= set(range(1, LOOPS + 1))
    assert readers.start_again(paths) < 10**11


def test_results(paths: Paths, many: Callable[[float], settings]) -> None:
    """Any bytes under the name of a result."""

    @many(0.5 / LOOPS)
    @given(RESULTS)
    def run(contents: tuple[bytes, ...]) -> None:
        lay_spool(paths, {**named(contents), "run-1-000001.png": b"png"})
        looks(paths, shows_the_neighbour)

    run()


def test_spools(paths: Paths, many: Callable[[float], settings]) -> None:
    """Any kind of file under any name."""

    @many(0.1)
    @given(SPOOLS)
    def run(spool: dict[str, str | bytes]) -> None:
        lay_spool(paths, spool)
        looks(paths, shows_the_neighbour)

    run()
    assert "root:" not in "".join(path.read_text() for path in (paths.root / "report/screenshots").iterdir())


def test_log_lines(paths: Paths, many: Callable[[float], settings]) -> None:
    """Any last words."""

    @many(0.3)
    @given(LOGS)
    def run(content: bytes) -> None:
        paths.log(VICTIM.name).write_bytes(content)
        looks(paths, readers.show_log)

    run()


def test_answers(paths: Paths, many: Callable[[float], settings]) -> None:
    """Any answer of the worker's half of `fleet verify`."""

    @many(0.1)
    @given(ANSWERS)
    def run(content: bytes) -> None:
        looks(paths, lambda _: readers.show_answer(content))

    run()


@pytest.mark.parametrize("show", [readers.naive_reader, readers.naive_printer])
def test_a_planted_reader_without_care_is_caught(
    paths: Paths, many: Callable[[float], settings], show: readers.Show
) -> None:
    """The control: the same spools and the same look end it, or see what it lets through."""

    @many(0.5 / LOOPS)
    @given(RESULTS)
    def run(contents: tuple[bytes, ...]) -> None:
        lay_spool(paths, named(contents))
        looks(paths, show)

    with pytest.raises((AssertionError, ValueError, LookupError, TypeError)):
        run()
