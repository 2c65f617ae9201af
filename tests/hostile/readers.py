"""Everything that reads a spool, a log or an answer and shows it; and what must not reach a terminal."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

from fleet import log, status, supervise
from fleet.errors import FleetError
from fleet.model import Paths, Worker
from fleet.operate import journal, overview, progress
from fleet.operate.lifecycle import Trouble
from fleet.operate.run import Board, _report
from fleet.operate.verify.report import Report, text
from fleet.operate.verify.verdicts import judge
from fleet.probes import Answer
from fleet.programs import Installation, told_error
from fleet.result import RunOrder
from fleet.supervise import ProgramState
from fleet.terminal import console
from lab import report
from tests.hostile.mutants import LOOPS
from tests.unit.test_fleet_verify import good
from worker.spool import Spool

VICTIM, NEIGHBOUR = Worker(uid=1101), Worker(uid=1102)
MEMBERS = (VICTIM, NEIGHBOUR)
ORDER = RunOrder(run="run-1", loops=LOOPS)
_JOINED = re.compile("[\u203c-\u3299\ufe0f\U0001f000-\U0001faff]\u200d[\u203c-\u3299\U0001f000-\U0001faff]")
_FATAL = ProgramState(name="worker:w1101", state="FATAL", pid=0, exit_code=1, up_seconds=0, message="")


class Terminal(io.StringIO):
    """Keeps what comes, as what a person sits before."""

    def isatty(self) -> bool:
        return True


@contextlib.contextmanager
def screen() -> Iterator[Terminal]:
    """All that is written meanwhile to standard output and standard error."""
    made = Terminal()
    with contextlib.redirect_stdout(made), contextlib.redirect_stderr(made):
        yield made


def obeyed(shown: str) -> set[str]:
    """What of it a terminal, or an eye, would obey: written apart from the product's own list."""
    plain = _JOINED.sub("", shown.replace("\n", ""))
    return {letter for letter in plain if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp")}


def show_spools(paths: Paths) -> Board:
    """`fleet run`, `fleet status` and the demo's report on what lies in the spools, in words and as JSON."""
    board = Board(ORDER, MEMBERS, paths)
    fresh = board.look()
    progress._lines(board, fresh)
    console._console(sys.stdout).print(progress._table(board))
    run = _report(board, None, 1.0)
    console.print_table(progress.summary(run), progress.COLUMNS, [progress.row(one) for one in run.runs])
    console.show(*progress.reasons(run))
    _as_json(run.model_dump(mode="json"))
    seen = status.take(MEMBERS, Installation(paths=paths)).model_copy(update={"supervisor_pid": 1})
    console.show(*overview.text(seen, paths, datetime.now(timezone.utc), ()))
    _as_json(seen.model_dump(mode="json"))
    made = report.make(run.runs, workers=2, loops=LOOPS, address_events=0, wall_seconds=1.0)
    report.browser_window(run.runs)
    report.write(paths.root / "report", made, run.runs, {one.name: paths.spool(one) for one in MEMBERS})
    for name, value in report.summary(made, run.runs):
        console.show(f"{name} {value}")
    return board


def _as_json(value: object) -> None:
    """As --json shows it, which any program can read."""
    with screen() as shown:
        console.print_json(value)  # type: ignore[arg-type]
    json.loads(shown.getvalue(), parse_constant=_refuse)
    console.show(shown.getvalue())


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def start_again(paths: Paths) -> int:
    """The victim's next life: where it goes on."""
    return Spool(paths.spool(VICTIM)).last_loop(ORDER.run)


def show_log(paths: Paths) -> None:
    """Last words of a worker, as `fleet up`, `fleet run`, `fleet log` and a terminal's log lines tell them."""
    path = paths.log("worker:w1101".rpartition(":")[2])
    for json_too in (False, True):
        journal._say(journal.Log(path).read(1 << 20), argparse.Namespace(worker=None, json=json_too))
    lines = list(supervise.last_lines(path))
    error = told_error("\n".join(lines), "nothing")
    log.get("test").warning("worker.said", reason=error.message, errors=lines)
    trouble = Trouble(Installation(paths=paths))
    trouble._log_bytes.clear()
    try:
        trouble.check([_FATAL])
    except FleetError as told:
        console._report("fleet", told, told.exit_code, debug=False)


def show_answer(content: bytes) -> None:
    """`fleet verify` on what a worker's half has answered."""
    try:
        answer = Answer.model_validate_json(content)
    except ValueError:
        return
    made = Report(
        **{"worker": "w1101", "isolation": "uid", "time": "", "versions": {"browser": answer.browser or "none"}},
        capture={"seen": 1, "lost": 0},
        properties=judge(dataclasses.replace(good(), answer=answer)),
    )
    lines = list(text(made))
    assert not any("\n" in line for line in lines)
    console.show(*lines)
    _as_json(made.model_dump(mode="json"))


def naive_reader(paths: Paths) -> None:
    """What a reader without care does."""
    for worker in MEMBERS:
        for path in paths.spool(worker).glob("*.json"):
            json.loads(path.read_bytes())["run"]


def naive_printer(paths: Paths) -> None:
    """What a printer without care does."""
    for path in paths.spool(VICTIM).glob("*.json"):
        with contextlib.suppress(ValueError):
            print(*json.loads(path.read_bytes()).values())


Show = Callable[[Paths], object]


def places(root: Path) -> Paths:
    """A fleet's folders below ROOT, with a spool each."""
    made = Paths(root=root)
    for worker in MEMBERS:
        made.spool(worker).mkdir(parents=True, exist_ok=True)
    made.logs.mkdir(parents=True, exist_ok=True)
    return made
