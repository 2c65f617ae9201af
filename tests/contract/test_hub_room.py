"""A hub and the room on its disk: without any no work begins, and what is old goes."""

from __future__ import annotations

import os

from fleet.model import Fleet
from fleet.settings.hub import KeepSettings
from fleet.sockets.hub_api import Take, Taken
from hub.queue import reading
from tests.hubs import FLEET, client, finish, running, take
from tests.waiting import until
from worker.jobs import Jobs
from worker.spool import Spool

ONE, TWO, *_ = FLEET.members


def keeping(settings: KeepSettings) -> Fleet:
    """The fleet with these settings."""
    return FLEET.model_copy(update={"hub": FLEET.hub.model_copy(update={"keep": settings})})


def test_a_full_disk_takes_no_work_and_loses_none(root: None) -> None:
    """It is said before; what a worker has ends as ever; the next job begins when there is room again."""
    with running(keeping(KeepSettings(free_mebibytes=8)), disk="64m") as scene, client(scene, ONE.uid) as one:
        (scene.paths.state / "some").write_bytes(bytes(40 << 20))
        first, second = scene.add("first", "second")
        work = take(one)
        (scene.paths.state / "more").write_bytes(bytes(20 << 20))
        scene.hand_in(ONE, work)
        finish(one, work)
        assert scene.runs(first) == [("good", ONE.name)]
        assert one.ask(Take(seconds=0), Taken).work is None
        for name in ("some", "more"):
            (scene.paths.state / name).unlink()
        assert take(one).job == second
        said = (scene.paths.root / "hub.log").read_text()
        assert said.index("disk.low") < said.index("disk.full") < said.index("disk.has_room")


def test_what_is_old_goes_and_a_worker_takes_its_own_away(root: None) -> None:
    """It is told of pictures that are too many, by its own connection, and what it has taken away is known no more."""
    with running(keeping(KeepSettings(pictures_days=1e-9))) as scene:
        (job,) = scene.add("old")
        with client(scene, ONE.uid) as one:
            work = take(one)
            scene.hand_in(ONE, work)
            finish(one, work)
        scene.kill()
        scene.start()
        with client(scene, TWO.uid) as two:
            assert two.ask(Take(seconds=0, forgotten=(f"job-{job}-000001.png",)), Taken).forget == ()
        assert reading.pictures_of(scene.database, job, 1)

        def forgotten() -> bool:
            os.seteuid(ONE.uid)
            try:
                spool = Spool(scene.paths.spool(ONE))
                with Jobs(scene.paths.hub_socket, only=False, forget=spool.forget) as one:
                    assert one.take(0) is None
            finally:
                os.seteuid(0)
            return not reading.pictures_of(scene.database, job, 1)

        until("the hub has looked, and the worker has heard of it", forgotten)
        assert [path.name for path in scene.paths.spool(ONE).iterdir()] == [f"job-{job}-000001.json"]
