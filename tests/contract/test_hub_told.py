"""A rule and a webhook at a real hub: from what a worker hands in to the word that arrives, over a death in between."""

from __future__ import annotations

import json
from pathlib import Path

from fleet.model import Fleet
from fleet.settings.alerts import AlertSettings, AlertTargetSettings
from fleet.settings.hub import TargetSettings
from hub.delivery.signing import signed
from hub.queue.repeat import Interval
from tests.hubs import FLEET, Scene, client, finish, running, take
from tests.programs.owner import Server
from tests.waiting import until

ONE, *_ = FLEET.members


def watching(url: str, secret: Path) -> Fleet:
    """A fleet that tells of what is cheap."""
    cheap = AlertSettings(value="/answer/price", when="below", than=10, targets=("hook",))
    hook = AlertTargetSettings(url=url, insecure=True, secret_file=str(secret), timeout_seconds=5)
    hub = FLEET.hub.model_copy(update={"alerts": {"cheap": cheap}, "alert_targets": {"hook": hook}})
    return FLEET.model_copy(update={"hub": hub})


def priced(scene: Scene, price: float) -> None:
    """The next run of its one job finds PRICE."""
    with client(scene, ONE.uid) as one:
        work = take(one, 60)
        scene.hand_in(ONE, work, answer={"price": price})
        finish(one, work)


def test_a_word_arrives_once_when_it_begins_and_once_when_it_is_over(root: None, tmp_path: Path) -> None:
    """Signed; a hub that dies before its word has arrived tells it after its start, under the same name."""
    secret, server = tmp_path / "secret", Server("503")
    secret.write_text("s3cret\n")
    try:
        with running(watching(f"{server.url}/hook", secret)) as scene:
            scene.add("tea", repeat=Interval(1))
            for price in (12, 7):
                priced(scene, price)
            until("it was refused", lambda: not server.moods, 30)
            scene.kill()
            scene.start()
            priced(scene, 8)
            priced(scene, 15)
            # What waits for its next try is tried with the next one that is due at the latest.
            scene.database.run(lambda db: db.exec_driver_sql("UPDATE outbox SET due_at = 0"))
            scene.rings()
            until("both are told", lambda: len({key for key, _, _ in server.taken}) == 2, 60, lambda: server.taken)
        said = {key: json.loads(body) for key, _, body in server.taken}
        told = sorted(said.values(), key=lambda one: one["ended_at"])  # several are sent at a time, in any order
        assert [(one["what"], one["value"]) for one in told] == [("begun", 7), ("over", 15)]
        for (key, _, body), headers in zip(server.taken, server.headers, strict=True):
            stamp = int(headers["webhook-timestamp"])
            assert headers["webhook-signature"] == signed(key, body, "s3cret", stamp)["webhook-signature"]
    finally:
        server.shutdown()
        server.server_close()


def test_a_machine_that_is_called_otherwise_finds_what_waits_for_it(root: None, tmp_path: Path) -> None:
    """A run that could not be delivered is, after a new start under another host name; other files, another host."""
    folder = tmp_path / "results"
    target = TargetSettings(url=folder.as_uri())
    fleet = FLEET.model_copy(update={"hub": FLEET.hub.model_copy(update={"targets": {"folder": target}})})
    with running(fleet) as scene:
        scene.add("tea", targets=("folder",))
        priced(scene, 7)
        waiting = "SELECT host FROM outbox WHERE tries > 0"
        until("it was tried", lambda: scene.database.run(lambda db: db.exec_driver_sql(waiting).all()), 30)
        scene.kill()
        folder.mkdir()
        scene.prefix = ["unshare", "--uts", "sh", "-c", 'hostname elsewhere && exec "$@"', "sh"]
        scene.start()
        scene.database.run(lambda db: db.exec_driver_sql("UPDATE outbox SET due_at = 0"))
        scene.rings()
        until("it is delivered", lambda: [*folder.rglob("*.json")], 30)
        scene.kill()
        scene.paths.hub_host.unlink()
        scene.start()
        assert "elsewhere" in scene.paths.hub_host.read_text()
