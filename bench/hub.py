"""The time that the hub adds to a loop: `sudo bin/bench hub`.

Sixty-four workers under their own UIDs take a job, store a result and a picture of 200 kB, and report it: as fast as
they can, then a loop every two seconds each, as browsers do. The database is on the disk, and each commit waits for it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from bench.slots import spread
from fleet.model import Worker
from fleet.sockets.client import Client
from fleet.sockets.hub_api import Take, Taken
from hub.queue.values import Job
from tests.hubs import FLEET, Scene, client, finish, running

SITES = 400
PICTURE = os.urandom(200_000)
Times = list[tuple[float, float]]
"""Milliseconds of each take and finish."""


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(prog="bench hub", description=__doc__)
    parser.add_argument("--jobs", type=int, default=20, help="for each worker")
    jobs, workers = parser.parse_args().jobs, FLEET.members
    with running() as scene, contextlib.ExitStack() as stack, ThreadPoolExecutor(len(workers)) as threads:
        clients = [stack.enter_context(client(scene, worker.uid)) for worker in workers]
        for pause in (0.0, 2.0):
            scene.store.add([Job(site=f"s{n % SITES}", task="visit") for n in range(jobs * len(workers))])
            began = time.monotonic()
            found = [one for each in threads.map(partial(loops, scene, jobs, pause), workers, clients) for one in each]
            each_second = len(found) / (time.monotonic() - began)
            print(f"a loop every {pause:g} s each: {len(found)} jobs, {each_second:.0f} a second")
            for what, times in (("take", [a for a, _ in found]), ("finish", [b for _, b in found])):
                print(f"  {what}, ms: {spread(times)}")
            print(f"  both, ms: {spread([a + b for a, b in found])}", flush=True)


def loops(scene: Scene, count: int, pause: float, worker: Worker, one: Client) -> Times:
    """The loops of one worker."""
    own, found = random.Random(worker.uid), []  # noqa: S311 - no secret
    for _ in range(count):
        time.sleep(own.uniform(0.5, 1.5) * pause)
        began = time.monotonic()
        work = one.ask(Take(seconds=60), Taken).work
        assert work, "the queue is empty"
        taken = time.monotonic()
        scene.hand_in(worker, work, picture=PICTURE)
        ending = time.monotonic()
        finish(one, work)
        found.append(((taken - began) * 1000, (time.monotonic() - ending) * 1000))
    return found


if __name__ == "__main__":
    main()
