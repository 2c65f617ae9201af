"""Addresses of the host come and go beside browsers that load pages: `sudo bin/bench churn`.

Chrome drops its requests at every address change that it can see. Three runs over the same lab and site: in
`uid` isolation Chrome may not use netlink, in `netns` it may and there is no event, and in `uid` with netlink
allowed it must lose requests, or the zeros of the others mean nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone

from bench.addresses import EACH_SECONDS, changing
from bench.loading import Crowd
from fleet.errors import ExitCode, RunFailed
from fleet.machine.interrupts import Interrupts, Stopped
from fleet.result import Losses, Result
from fleet.terminal import console
from lab.events import AddressListener
from lab.net import Lab

SERVERS = 3
SAY_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One run."""

    isolation: str
    netlink: bool
    """Whether Chrome may use netlink."""

    @property
    def loses(self) -> bool:
        """Whether it must lose requests: there are events, and Chrome can see them."""
        return self.isolation == "uid" and self.netlink

    def __str__(self) -> str:
        return f"{self.isolation}, netlink {'allowed' if self.netlink else 'denied'}"


CASES = (
    Case(isolation="uid", netlink=False),
    Case(isolation="netns", netlink=True),
    Case(isolation="uid", netlink=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of one run: of every loop that was running while the addresses changed."""

    case: str
    must_lose: bool
    seconds: float
    """Seconds of changes, from when the last browser began to load pages."""
    address_events: int
    """Seen in the host's namespace in that time."""
    loops: int
    failed_loops: int
    pages: int
    requests: int
    network_changed: int
    other_losses: int

    @property
    def ok(self) -> bool:
        """Nothing lost, or something in the control; never if nothing happened."""
        happened = self.requests > 0 and self.address_events >= 0.9 * self.seconds / EACH_SECONDS
        lost_nothing = not (self.network_changed or self.other_losses or self.failed_loops)
        return happened and (self.network_changed > 0 if self.must_lose else lost_nothing)


def measure(crowd: Crowd, case: Case, seconds: float) -> Outcome:
    """One run: SECONDS of changes beside CROWD's browsers; raises FleetError when these do not run at all."""
    host = crowd.lab.topology.namespace("host")
    crowd.configure(isolation=case.isolation, deny_netlink=not case.netlink)
    console.say(f"churn: {case}: {crowd.workers} browsers begin")
    began = datetime.now(timezone.utc)
    with AddressListener(host) as listener, crowd.running() as child:
        with changing(host):
            crowd.wait_until_all_load(child, began)
            all_load = datetime.now(timezone.utc)
            _watch(crowd, case, began, seconds)
            over = datetime.now(timezone.utc)
        # What was under way is handed in and counted too. The control's pages do not end beside changes.
        crowd.wait_until_all_handed_in(child, began, over)
        events = len(listener.between(all_load, over))
        results = [result for result in crowd.results(began) if result.started < over]
    made = _outcome(case, (over - all_load).total_seconds(), events, results)
    console.say(f"churn: {case}: {_lost(results)}")
    return made


def _watch(crowd: Crowd, case: Case, began: datetime, seconds: float) -> None:
    """Wait for SECONDS, and report progress."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        console.say(f"churn: {case}: {seconds - left:.0f} of {seconds:g} s, {_lost(crowd.results(began))}")
        time.sleep(min(SAY_SECONDS, left))  # the measured time itself


def _lost(results: Sequence[Result]) -> str:
    losses = sum(results, Losses())
    return f"{losses.requests} requests, {losses.network_changed} lost"


def _outcome(case: Case, seconds: float, events: int, results: Sequence[Result]) -> Outcome:
    return Outcome(
        case=str(case),
        must_lose=case.loses,
        seconds=round(seconds, 1),
        address_events=events,
        loops=len(results),
        failed_loops=sum(not result.ok for result in results),
        **sum(results, Losses()).model_dump(),
    )


def _bench(arguments: argparse.Namespace) -> int:
    console.require_root("bin/bench churn")
    # Twice as many keys as workers: every loop finds a rested one.
    lab = Lab(arguments.lab, servers=SERVERS, keys=max(10, -(-2 * arguments.workers // SERVERS)))
    with Interrupts() as interrupts:
        try:
            lab.up()
            crowd = Crowd(lab, arguments.workers, arguments.first_uid)
            outcomes = [measure(crowd, case, arguments.seconds) for case in CASES]
        except Stopped as stopped:
            return stopped.exit_code
        finally:
            with interrupts.shield():
                lab.down()
    _show(outcomes, as_json=arguments.json)
    if not all(outcome.ok for outcome in outcomes):
        raise RunFailed("; ".join(f"not as it has to be: {outcome.case}" for outcome in outcomes if not outcome.ok))
    return ExitCode.DONE


def _show(outcomes: Sequence[Outcome], *, as_json: bool) -> None:
    if as_json:
        console.print_json([{**asdict(outcome), "ok": outcome.ok} for outcome in outcomes])
        return
    names = [field.name for field in fields(Outcome) if field.name != "must_lose"]
    rows = [[*(str(getattr(outcome, name)) for name in names), _verdict(outcome)] for outcome in outcomes]
    console.print_table("address changes beside browsers", [*(name.replace("_", " ") for name in names), ""], rows)


def _verdict(outcome: Outcome) -> str:
    wanted = "the control has to lose" if outcome.must_lose else "nothing may be lost"
    return f"{'as it has to be' if outcome.ok else 'NOT GOOD'}: {wanted}"


def build() -> console.Parser:
    """The command line."""
    made = console.parser("bench churn", __doc__ or "", "bin/bench churn --seconds 120")
    made.set_defaults(run=_bench)
    made.add_argument("--seconds", type=console.positive, default=120, metavar="S", help="of each run (default 120)")
    made.add_argument("--workers", type=console.positive, default=8, metavar="N", help="browsers at once (default 8)")
    made.add_argument("--lab", default="churn", metavar="NAME", help="name of its lab (default: churn)")
    made.add_argument("--first-uid", type=int, default=1101, metavar="UID", help="the workers' UIDs (default: 1101)")
    made.add_argument("--json", action="store_true", help="the outcomes as JSON")
    return made


if __name__ == "__main__":
    console.main(build())
