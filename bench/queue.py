"""How many jobs a second go through the queue: `bin/bench queue`, without root.

Hubs are processes. Each claims for 16 idle workers at a time and ends what it got in one transaction, as a hub does;
the jobs do nothing. Each case is measured with an empty history and beside a million runs; a file has one hub. The
databases are on the disk and wait for it at each commit.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import sqlalchemy as sa

from bench.slots import machine, spread
from fleet.db import Database
from hub.queue import upgrade
from hub.queue.notices import Notices
from hub.queue.store import Host, Store
from hub.queue.values import Claimed, Finished, Job, Pace
from tests.postgresql import Server, running

SITES = 400
PACE = Pace(interval_seconds=0, most=4)
AT_ONCE = 16
GO = "go\n"
PAST = """INSERT INTO runs (job, fence, site, task, arguments, ended_at, outcome, answer)
SELECT -n, 1, 's' || (n % 400), 'visit', '{}', 1.7e9 + n, 'good', '{"price": 3}' FROM """
NUMBERS = {
    "sqlite": "(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < :rows) SELECT n FROM c) AS p",
    "postgresql": "(SELECT generate_series(1, :rows) AS n) AS p",
}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(prog="bench queue", description=__doc__)
    parser.add_argument("--jobs", type=int, default=8000, help="for each hub")
    parser.add_argument("--history", type=int, default=1_000_000, help="finished runs")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--hub", nargs=2, metavar=("ADDRESS", "NAME"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.hub:
        address, name = arguments.hub
        be_a_hub(address, name, arguments.jobs)
        return
    report: dict[str, Any] = {"machine": machine()}
    with tempfile.TemporaryDirectory(prefix="fleet-bench-", dir="/var/tmp") as folder, running(safe=True) as server:
        for name, address, process in (
            ("SQLite", f"sqlite:///{folder}/hub.db", None),
            ("PostgreSQL", server.fresh(), server),
        ):
            database = Database(address)
            upgrade.upgrade(database)
            for history in (0, arguments.history):
                past(database, history)
                for hubs in (1, 2) if process else (1,):  # a file can serve only one host
                    title = f"{name}, {hubs} hub{'s' * (hubs > 1)}, {history:,} runs before"
                    report[title] = measured(database, address, hubs, arguments.jobs, process)
                    print(title, report[title], file=sys.stderr)
            report[f"{name}, from adding a job to having it"] = woken(database, address)
            database.close()
    if arguments.json:
        print(json.dumps(report, indent=1))
    else:
        print("\n".join(f"{name}: {value}" for name, value in report.items()))


def past(database: Database, rows: int) -> None:
    """ROWS finished runs."""

    def work(db: sa.Connection) -> None:
        if database.name == "postgresql":
            db.execute(sa.text("SET LOCAL statement_timeout = 0"))
        db.execute(sa.text(PAST + NUMBERS[database.name]), {"rows": rows})

    if rows:
        database.run(work)


def measured(database: Database, address: str, hubs: int, jobs: int, server: Server | None) -> dict[str, Any]:
    """HUBS at one queue, JOBS each."""
    store = Store(database, lambda: None, PACE)
    started = time.perf_counter()
    store.add([Job(site=f"s{n % SITES}", task="visit", arguments={"page": n}) for n in range(jobs * hubs)])
    added = time.perf_counter() - started
    with hub_processes(address, hubs, jobs) as processes:
        before = server_seconds(server)
        started = time.perf_counter()
        for process in processes:
            assert process.stdin
            process.stdin.write(GO)
            process.stdin.flush()
        told = [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]
        seconds = max(one["ended"] for one in told) - started
    done = sum(one["jobs"] for one in told)
    return {
        "jobs a second": round(done / seconds),
        "added a second": round(jobs * hubs / added),
        "processor of a hub, ms a job": round(
            statistics.mean(one["processor"] / one["jobs"] for one in told) * 1000, 2
        ),
        "processor of the server, ms a job": round((server_seconds(server) - before) / done * 1000, 2),
        f"claim of {AT_ONCE}, ms": spread([took for one in told for took in one["claims"]]),
        f"end of {AT_ONCE}, ms": spread([took for one in told for took in one["ends"]]),
    }


def woken(database: Database, address: str) -> str:
    """Milliseconds from before a job is added, by another connection, until a hub that slept has it."""
    rung = threading.Event()
    own = Database(address)
    hub = Store(own, rung.set, PACE)
    # With PostgreSQL the adder does not ring the hub: it hears from the server.
    adder = Store(database, (lambda: None) if own.name == "postgresql" else rung.set, PACE)
    host = Host("sleeper", "1")
    hub.enlist(host, 3600, version="", settings="")
    notices = Notices(own, rung.set)
    rung.wait(5 if own.name == "postgresql" else 0)
    times = []
    for number in range(100):
        rung.clear()
        started = time.perf_counter()
        adder.add([Job(site=f"s{number}", task="visit")])
        found: tuple[Claimed, ...] = ()
        while not found:
            assert rung.wait(5), "nobody rang"
            found = hub.claim(host, ["w1"]).jobs
        times.append((time.perf_counter() - started) * 1000)
        hub.finish([Finished(job=one.job, fence=one.fence, outcome="good") for one in found])
    notices.close()
    own.close()
    return f"{spread(times)} ms"


@contextmanager
def hub_processes(address: str, hubs: int, jobs: int) -> Iterator[list[subprocess.Popen[str]]]:
    """That many hubs, which wait for a word."""
    processes = []
    for number in range(hubs):
        argv = [sys.executable, "-m", "bench.queue", "--jobs", str(jobs), "--hub", address, f"h{number}"]
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout and process.stdout.readline()
        processes.append(process)
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def be_a_hub(address: str, name: str, jobs: int) -> None:
    """Claim and end JOBS jobs, or all that there are."""
    store = Store(Database(address), lambda: None, PACE)
    host = Host(name, str(os.getpid()))
    store.enlist(host, 3600, version="", settings="")
    workers = [f"w{number}" for number in range(AT_ONCE)]
    print("ready", flush=True)
    sys.stdin.readline()
    claims, ends, done = [], [], 0
    processor = time.process_time()
    while done < jobs:
        started = time.perf_counter()
        found = store.claim(host, workers).jobs
        claims.append((time.perf_counter() - started) * 1000)
        if not found:
            break
        started = time.perf_counter()
        answer = {"price": 3}
        store.finish([Finished(job=one.job, fence=one.fence, outcome="good", answer=answer) for one in found])
        ends.append((time.perf_counter() - started) * 1000)
        done += len(found)
    used = time.process_time() - processor
    told = {"jobs": done, "processor": used, "claims": claims, "ends": ends, "ended": time.perf_counter()}
    print(json.dumps(told), flush=True)


def server_seconds(server: Server | None) -> float:
    """Processor time of all of SERVER."""
    if server is None:
        return 0.0
    own = psutil.Process(server.process.pid)
    return sum(sum(one.cpu_times()[:4]) for one in (own, *own.children()))


if __name__ == "__main__":
    main()
