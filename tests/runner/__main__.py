"""The program bin/test: what is asked for, the tests' environment, then the jobs of each round."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.runner import again, jobs, shares
from tests.runner.plan import COMPILE, FIRST, RELEASE, SHARDED, Plan, files, tier_of
from tests.runner.progress import Progress, say
from tests.runner.shares import CHECKOUT
from tests.runner.summary import Summary

SETUP = ("bin/setup", "--dev")
LIGHT = {"lint", "unit", "contract"}
"""The tiers of `quick`. They run without root too, less the tests that need it."""
NEEDS_ROOT, INTERRUPTED = 77, 130
SHARDS = len(os.sched_getaffinity(0)) + 2
"""Two more than there are cores: a third of a test's time it waits for something."""


def arguments() -> tuple[argparse.Namespace, tuple[str, ...]]:
    """What is asked for, and what is pytest's."""
    parser = argparse.ArgumentParser(
        prog="bin/test",
        allow_abbrev=False,
        description="Runs the tests, each for real: what needs root gets it, and a test that is skipped has failed.",
        epilog="tests/TIER, tests/TIER/FILE.py and FILE.py::TEST are run instead of tiers; all else is pytest's.",
    )
    tiers = ("all", "quick", *FIRST, *SHARDED, *RELEASE, "demo")
    parser.add_argument("--tier", action="append", choices=tiers, default=[], help="what to run; may be given again")
    parser.add_argument("--shards", type=int, default=SHARDS, help=f"how many run at once (here {SHARDS})")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="run it N times, say what failed how often")
    parser.add_argument("--record-durations", action="store_true", help="write tests/durations.json from this run")
    parser.add_argument(
        "--patience", type=float, default=3.0, help="stop what takes so many times longer than expected"
    )
    parser.add_argument("-s", "--show", action="store_true", help="one at a time, all output as it comes")
    asked, words = parser.parse_known_args()
    rest = [name for word in words for name in (files(Path(word).name) if _is_tier(word) else [word])]
    asked.names = tuple(word for word in rest if word.startswith("tests/") and ".py" in word)
    asked.tier += [] if asked.tier or asked.names else ["all"]
    return asked, tuple(word for word in rest if word not in asked.names) + (("-s",) if asked.show else ())


def _is_tier(word: str) -> bool:
    return word.startswith("tests/") and (CHECKOUT / word).is_dir()


def environment(light: bool) -> str:
    """The tests' Python, built where it is not there yet. LIGHT: without Debian's packages, and without root."""
    if not light:
        subprocess.run(SETUP, check=True)
    elif not _python().parents[1].joinpath("ready").exists():
        if os.geteuid() != 0:
            cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
            os.environ.setdefault("FLEET_HOME", f"{cache}/fleet")
        subprocess.run([*SETUP, "--environment-only"], check=True)
    subprocess.run([_python(), *COMPILE], check=False)
    return str(_python())


def _python() -> Path:
    found = subprocess.run([*SETUP, "--print-environment"], capture_output=True, text=True, check=True).stdout
    return Path(found.strip(), "bin/python")


def run(plan: Plan, asked: argparse.Namespace, folder: Path) -> Summary:
    """All rounds; outputs and events go to FOLDER."""
    summary, progress = Summary(plan.notes), Progress()
    for note in plan.notes:
        say(note)
    for number in range(asked.repeat):
        place = folder / str(number)
        place.mkdir()
        planned = plan.jobs()
        early, at_once = {job.name for job in planned if job.early}, 1 if asked.show else asked.shards
        for one in jobs.run(planned, at_once, place, asked.show, progress.look):
            summary.ended.append(one)
            early.discard(one.job.name)
            if one.job.early and not early:
                say(f"lint, unit, contract: {summary.verdict()} after {progress.seconds():.0f} s")
        say(f"all: {summary.verdict()} after {progress.seconds():.0f} s")
        if asked.repeat == 1 and not asked.names and (second := again.jobs_of(summary.ended)):
            say("running again, one at a time, what failed beside others")
            summary.again = list(jobs.run(second, 1, place, asked.show, progress.look))
        summary.rounds += 1
    return summary


def main() -> int:
    """Run what is asked for; 0 if nothing failed."""
    asked, rest = arguments()
    tiers = {"all": {*FIRST, *SHARDED}, "quick": LIGHT}
    wanted = tuple(one for tier in asked.tier for one in tiers.get(tier, {tier}))
    light = LIGHT.issuperset([*wanted, *map(tier_of, asked.names)])
    rootless = "quick" in asked.tier or os.geteuid() != 0
    if not light and os.geteuid() != 0:
        say("needs root: namespaces, accounts, capabilities; run: sudo bin/test, or bin/test --tier quick")
        return NEEDS_ROOT
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="fleet-test-") as folder:
        try:
            plan = Plan(
                wanted,
                asked.names,
                rest,
                environment(light),
                1 if asked.show else asked.shards,
                rootless,
                asked.patience,
            )
            summary = run(plan, asked, Path(folder))
        except subprocess.CalledProcessError as error:
            return error.returncode
        except KeyboardInterrupt:
            say("stopped")
            return INTERRUPTED
        if asked.record_durations:
            shares.record(summary.durations())
        print("\n".join(summary.lines()))
    return 0 if summary.verdict() == "ok" else 1


if __name__ == "__main__":
    sys.exit(main())
