"""The cost of a loop without its page, this checkout beside another: `sudo bin/bench loop --beside CHECKOUT`.

Every side has a lab of the same shape and the same eight workers, which load a page of one line. The sides take turns.
Processor time is the kernel's count of a control group (cpu.stat) with everything that the fleet starts: a count of
children would miss Chrome's, because the kernel itself waits for processes that are killed with their parent.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from fleet.errors import ExitCode, FleetError, UsageError
from fleet.machine import cgroups
from fleet.terminal import console

HERE = Path(__file__).resolve().parents[1]
MOST = 0.6
"""Of the other's processor time, as it is promised."""
_CHILD = """
import json, os, sys
from pathlib import Path
from lab import run
from lab.net import Lab
from lab.topology import SITE_NAME
name, workers, uid, group, changes = sys.argv[1:]
lab = Lab(name, servers=2, keys=2 * int(workers))
lab.up()
try:
    task = {"task": {"run": "visit"}, "task.options": {"urls": [f"https://{SITE_NAME}/ip"]}}
    tables = {**run.settings(lab, int(workers), first_uid=int(uid), changes=json.loads(changes)), **task}
    run.prepare(lab, int(workers), first_uid=int(uid))
    run.paths(lab).config.write_text(run.toml(tables), encoding="utf-8")
    Path(group, "cgroup.procs").write_text(str(os.getpid()))
    print("ready", flush=True)
    for line in sys.stdin:
        words = run.program("fleet", "run", "--workers", workers, "--loops", line.strip())
        done = lab.run("host", words)
        print(json.dumps([done.returncode, done.stderr[-2000:]]), flush=True)
finally:
    lab.down()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loops:
    """What some loops of all workers took beyond the first of each, for one loop."""

    processor_seconds: float
    seconds: float
    """By the clock, of all workers at once."""


class Side:
    """The fleet of a CHECKOUT in a lab of its own."""

    def __init__(self, checkout: Path, letter: str, workers: int, changes: Sequence[str], stack: ExitStack) -> None:
        self.name, self.workers, self.measured = f"{checkout.name} {' '.join(changes)}".strip(), workers, list[Loops]()
        own = cgroups.own()
        if own is None:
            raise FleetError("there is no control group of version 2 here, which counts the processor time")
        self._group = own / f"bench-loop-{letter}"
        self._group.mkdir(exist_ok=True)
        stack.callback(cgroups.leave, self._group)
        made = [str(checkout / "bin/setup"), "--dev", "--print-environment"]
        environment = subprocess.run(made, capture_output=True, text=True, check=True).stdout.strip()
        words = [f"loop{letter}", str(workers), str(1101 + 40 * ord(letter) % 400), str(self._group), _tables(changes)]
        self._child = subprocess.Popen(
            [f"{environment}/bin/python", "-c", _CHILD, *words],
            cwd=checkout,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        stack.callback(self._end)
        while (line := self._line()) != "ready":
            console.say(line)

    def measure(self, loops: int) -> None:
        """Run LOOPS loops of every worker, less one loop of every worker."""
        few, many = self._run(1), self._run(loops)
        count = self.workers * (loops - 1)
        self.measured.append(
            Loops(processor_seconds=(many[0] - few[0]) / count, seconds=(many[1] - few[1]) / count),
        )

    def _run(self, loops: int) -> tuple[float, float]:
        before, began = self._processor(), time.monotonic()
        assert self._child.stdin
        self._child.stdin.write(f"{loops}\n")
        self._child.stdin.flush()
        code, said = json.loads(self._line())
        if code != ExitCode.DONE:
            raise FleetError(f"{self.name}: fleet run ended with {code}: {said}")
        return self._processor() - before, time.monotonic() - began

    def _processor(self) -> float:
        return int((self._group / "cpu.stat").read_text(encoding="ascii").split()[1]) / 1e6

    def _line(self) -> str:
        assert self._child.stdout
        if not (line := self._child.stdout.readline()):
            raise FleetError(f"{self.name}: its lab has ended; what it said is above")
        return line.strip()

    def _end(self) -> None:
        assert self._child.stdin
        self._child.stdin.close()
        self._child.wait()


def _tables(changes: Sequence[str]) -> str:
    """`browser.patience=0.5` and others as the lab takes them."""
    tables: dict[str, dict[str, object]] = {}
    for change in changes:
        key, _, value = change.partition("=")
        table, _, name = key.rpartition(".")
        try:
            tables.setdefault(table, {})[name] = json.loads(value)
        except ValueError:
            raise UsageError(f"{change} is no setting", hint='such as browser.driver="selenium"') from None
    return json.dumps(tables)


def _bench(arguments: argparse.Namespace) -> int:
    console.require_root("bin/bench loop")
    with ExitStack() as stack:
        here = Side(HERE, "a", arguments.workers, arguments.set, stack)
        beside = Side(arguments.beside.resolve(), "b", arguments.workers, (), stack)
        for round_ in range(arguments.rounds):
            for side in (here, beside):
                side.measure(arguments.loops)
                console.say(f"loop: round {round_ + 1} of {arguments.rounds}: {side.name}: {side.measured[-1]}")
    processor = [median(one.processor_seconds for one in side.measured) for side in (here, beside)]
    seconds = [median(one.seconds for one in side.measured) for side in (here, beside)]
    rows = [
        (side.name, f"{processor[at]:.2f}", f"{3600 / seconds[at]:.0f}", str(len(side.measured)))
        for at, side in enumerate((here, beside))
    ]
    console.print_table("a loop", ("side", "processor seconds", "loops an hour", "rounds"), rows)
    share, more = processor[0] / processor[1], seconds[1] / seconds[0]
    console.show(f"{share:.0%} of the processor time, {more:.2f} times the loops an hour")
    return ExitCode.DONE if share <= MOST else ExitCode.FAILED


def build() -> console.Parser:
    """The command line."""
    made = console.parser("bench loop", __doc__ or "", "bin/bench loop --beside ../before")
    made.set_defaults(run=_bench)
    made.add_argument("--beside", type=Path, required=True, metavar="CHECKOUT", help="of the release to compare with")
    made.add_argument("--set", action="append", default=[], metavar="KEY=JSON", help="a setting of this side alone")
    made.add_argument("--workers", type=console.positive, default=8, metavar="N", help="browsers at once (default 8)")
    made.add_argument(
        "--loops", type=console.positive, default=4, metavar="N", help="of a worker, at least 2 (default 4)"
    )
    made.add_argument("--rounds", type=console.positive, default=3, metavar="N", help="of both sides (default 3)")
    return made


if __name__ == "__main__":
    console.main(build())
