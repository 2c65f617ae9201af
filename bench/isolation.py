"""What an isolation costs: the start of a worker, and throughput through its tunnel: `sudo bin/bench isolation`.

One run, in turns: `uid` and `netns` start a worker each, again and again; then a bare device, another, `uid` and
`netns` carry a TCP stream each, down and up. Values measured next to each other are compared, and the medians are
judged, unless the two bare devices differ by more than the limit (exit code 75: nothing is proven).
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Final, TypeVar

from bench.sides import Side, Sides, Walled, sides
from bench.slots import machine
from bench.starts import MOMENTS, PROCESSOR
from fleet.errors import ExitCode, RunFailed, TryLater
from fleet.machine.interrupts import Interrupts, Stopped
from fleet.terminal import console

MOST_MILLISECONDS: Final = 50.0
"""What a start may take longer in `netns` than in `uid`, to each moment but the last: a browser's own start differs
more than that from one time to the next."""
LEAST_PART: Final = 0.95
"""Of the bare device's throughput."""
QUIET: Final = "again, on a machine that does nothing else"
DIRECTIONS: Final = ("down", "up")

Kind = TypeVar("Kind", bound=Side)
Samples = dict[str, dict[str, list[float]]]
"""By measurement, then by side."""


def starts(uid: Walled, netns: Walled, count: int) -> Samples:
    """Milliseconds from the launcher's exec, COUNT times each in turns; one more of each before, which is left out."""
    found: Samples = {moment: {"uid": [], "netns": []} for moment in (PROCESSOR, *MOMENTS)}
    for number in range(count + 1):
        for name, side in _in_turn({"uid": uid, "netns": netns}, number):
            took = side.start()
            for moment in found if number else ():
                found[moment][name].append(took[moment])
        console.say(f"isolation: {number} of {count} starts each")
    return found


def streams(found: Sides, rounds: int, seconds: float) -> tuple[Samples, Samples]:
    """Megabits a second and processor seconds a gigabyte, ROUNDS times each in turns, and one more before, left out."""
    for side in (found.uid, found.netns):
        side.connect()
    rates: Samples = {direction: {name: [] for name in found.named()} for direction in DIRECTIONS}
    costs: Samples = {direction: {name: [] for name in found.named()} for direction in DIRECTIONS}
    for number in range(rounds + 1):
        for direction in DIRECTIONS:
            for name, one in _in_turn(found.named(), number):
                rate, cost = one.stream(direction, seconds)
                if number:
                    rates[direction][name].append(rate)
                    costs[direction][name].append(cost)
        console.say(f"isolation: {number} of {rounds} rounds of streams")
    return rates, costs


def _in_turn(sides: Mapping[str, Kind], number: int) -> list[tuple[str, Kind]]:
    """SIDES, with another one first in each round, because the first may have an advantage."""
    found = list(sides.items())
    first = number % len(found)
    return [*found[first:], *found[:first]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Two compared in one thing."""

    what: str
    measured: str
    beside: str
    compared: str
    bound: str
    ok: bool


def judge_starts(started: Samples) -> Iterator[Row]:
    """How much longer a start takes in `netns` than in `uid`."""
    for moment, took in started.items():
        more = statistics.median(one - other for one, other in zip(took["netns"], took["uid"], strict=True))
        bounded = moment != MOMENTS[-1]
        yield Row(
            what=f"start to {moment}, ms",
            **_shown(took, "netns", "uid"),
            compared=f"{more:+.1f} ms",
            bound=f"at most {MOST_MILLISECONDS:+g} ms" if bounded else "none",
            ok=more <= MOST_MILLISECONDS or not bounded,
        )


def judge_streams(what: str, streamed: Samples, *, least: float = 0.0) -> Iterator[Row]:
    """What part of the bare device's figure each isolation has; LEAST is its bound, 0 for none."""
    for direction, found in streamed.items():
        for name in list(found)[1:]:
            parts = [one / other for one, other in zip(found[name], _bare(found, name), strict=True)]
            part = statistics.median(parts)
            yield Row(
                what=f"{direction}, {what}",
                **_shown(found, name, "bare"),
                compared=f"x {spread(parts, digits=3)}",
                bound=f"at least x {least:g}" if least and name != "again" else "none",
                ok=part >= least or name == "again",
            )


def _bare(found: dict[str, list[float]], name: str) -> list[float]:
    """The bare device's in each round: of both of them, but for the second one itself."""
    both = zip(found["bare"], found["bare" if name == "again" else "again"], strict=True)
    return [statistics.mean(pair) for pair in both]


def quiet(rates: Samples) -> bool:
    """Whether the machine was quiet enough to judge: the two bare devices differ by less than the bound."""
    parts = [
        statistics.median(one / other for one, other in zip(found["again"], found["bare"], strict=True))
        for found in rates.values()
    ]
    return all(LEAST_PART <= part <= 1 / LEAST_PART for part in parts)


def _shown(samples: dict[str, list[float]], name: str, other: str) -> dict[str, str]:
    return {"measured": f"{name} {spread(samples[name])}", "beside": f"{other} {spread(samples[other])}"}


def spread(values: Sequence[float], digits: int | None = None) -> str:
    """Median, and the quartiles around it."""
    low, middle, high = statistics.quantiles(values, n=4)
    if digits is None:
        digits = 0 if middle >= 100 else 1
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def _bench(arguments: argparse.Namespace) -> int:
    console.require_root("bin/bench isolation")
    with Interrupts() as interrupts:
        try:
            with sides(arguments.lab, interrupts) as found:
                load = machine()
                started = starts(found.uid, found.netns, arguments.starts)
                rates, costs = streams(found, arguments.rounds, arguments.seconds)
        except Stopped as stopped:
            return stopped.exit_code
    rows = [
        *judge_starts(started),
        *judge_streams("Mbit/s", rates, least=LEAST_PART),
        *judge_streams("processor s/GB", costs),
    ]
    if arguments.json:
        samples = json.dumps({"rows": [asdict(row) for row in rows], "starts": started, "rates": rates, "costs": costs})
        console.print_json({"machine": load, **json.loads(samples)})
    else:
        title = f"median (quartiles) of {arguments.starts} starts, of {arguments.rounds} rounds of streams; {load}"
        columns = [field.name for field in fields(Row)]
        console.print_table(title, columns, [[str(getattr(row, name)) for name in columns] for row in rows])
    broken = [row for row in rows if not row.ok]
    words = "; ".join(f"{row.what}: {row.measured} beside {row.beside}" for row in broken)
    if not quiet(rates):
        raise TryLater(f"the bare device differs from itself by more than the bound; {words}", hint=QUIET)
    if broken:
        raise RunFailed(f"beyond its bound: {words}", hint=QUIET)
    return ExitCode.DONE


def build() -> console.Parser:
    """The command line."""
    made = console.parser("bench isolation", __doc__ or "", "bin/bench isolation --starts 20 --rounds 9")
    made.set_defaults(run=_bench)
    made.add_argument("--starts", type=console.positive, default=20, metavar="N", help="of each (default 20)")
    made.add_argument("--rounds", type=console.positive, default=9, metavar="N", help="of streams (default 9)")
    made.add_argument("--seconds", type=float, default=2.0, metavar="S", help="of each stream (default 2)")
    made.add_argument("--lab", default="wall", metavar="NAME", help="how its labs' names begin (default: wall)")
    made.add_argument("--json", action="store_true", help="every sample, as JSON")
    return made


if __name__ == "__main__":
    console.main(build())
