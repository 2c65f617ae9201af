"""The fleet's state for programs, and the alert rules and the dashboard that use it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.given_up import All, GivenUp
from fleet.machine.room import Room
from hub.queue.repeat import Cron, Interval
from hub.queue.values import Finished, Job
from hub.queue.watching import Watch, backlog, watches
from hub.web.health import could_begin_since, pressure, state_of
from hub.web.metrics import STAGES, Metrics
from tests.hub_pages import ELSEWHERE, ONE, Scene, ask, shown
from tests.hubs import FLEET
from tests.queues import Queue
from tests.waiting import until

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
NAME = re.compile(r"\bfleet_[a-z_]+")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A hub with a page."""
    with shown(tmp_path_factory.mktemp("metrics")) as made:
        yield made


def values(text: str) -> dict[str, float]:
    """The value of each series in TEXT."""
    lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def promtool(*words: str, given: str = "", folder: Path = DEPLOY) -> subprocess.CompletedProcess[str]:
    """Run Debian's promtool, which `bin/setup --dev` has put beside the environments."""
    program = Path(sys.prefix).parents[1] / "tools/promtool"
    return subprocess.run([program, *words], input=given, capture_output=True, text=True, cwd=folder, check=False)


def test_metrics_say_how_the_fleet_is(root: None, scene: Scene) -> None:
    """Prometheus' own linter takes them; the queue, the runs and a state for each worker are in them."""
    text = ask("/metrics")[2]
    judged = promtool("check", "metrics", given=text)
    assert judged.returncode == 0, judged.stdout + judged.stderr
    found = values(text)
    assert found['fleet_trouble{reason="workers"}'] == found['fleet_pressure{reason="workers"}'] == 1
    assert found['fleet_jobs{state="aside"}'] == 1 and found["fleet_database_up"] == 1
    states = [name for name in found if name.startswith("fleet_worker_state{")]
    assert len(states) == len(FLEET.members) and all('state="away"' in name for name in states)
    assert found[f'fleet_worker_last_result_timestamp_seconds{{worker="{ONE.name}"}}'] > 1e9


def test_a_watch_that_is_late_is_said(scene: Scene) -> None:
    """A job that repeats, and has no good result in time: its name, on the page, in /healthz and as a number."""
    scene.store.add([Job(site="w.example", task="visit", key="kettle", repeat=Interval(1.0), attempts=1)])
    (work,) = scene.store.claim(ELSEWHERE, [ONE.name]).jobs
    scene.store.finish([Finished(job=work.job, fence=work.fence, outcome="good")])
    with scene.database.engine.begin() as db:
        db.exec_driver_sql("UPDATE runs SET ended_at = ended_at - 600 WHERE site = 'w.example'")
    until("it is late", lambda: json.loads(ask("/healthz")[2])["late"] == ["kettle"], 60)
    assert ask("/healthz")[0] == 503 and values(ask("/metrics")[2])['fleet_watches{state="late"}'] == 1
    page = ask("/?lang=en")[2]
    assert "kettle" in page and "▲ late" in page


def test_what_supervisord_has_given_up_is_said(scene: Scene) -> None:
    """It is shown with the time of its next start: on the page, under /api and as a metric; its name is escaped."""
    path = scene.paths.given_up
    path.parent.mkdir(parents=True, exist_ok=True)
    one = GivenUp(name="worker:<b>w1301</b>", again_at=1.8e9, times=2)
    path.write_text(All(programs=(one,)).model_dump_json())
    until("it is known", lambda: json.loads(ask("/api/fleet")[2])["given_up"], 30)
    page = ask("/?lang=en")[2]
    assert "&lt;b&gt;w1301&lt;/b&gt;: given up by supervisord, times in a row (2)" in page and "2027-01-15" in page
    assert values(ask("/metrics")[2])["fleet_programs_given_up"] == 1
    path.unlink()


def test_who_was_stopped_is_told_from_who_is_missing(scene: Scene) -> None:
    """It has another word, shape and metric; both count as away, and cause the same trouble."""
    path = scene.paths.given_up
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(All(stopped=(f"worker:{ONE.name}", "netctl")).model_dump_json())

    def states() -> Counter[tuple[str, str]]:
        return Counter((one["state"], one["level"]) for one in json.loads(ask("/api/fleet")[2])["workers"])

    others = len(FLEET.members) - 1
    until("it is known", lambda: states() == {("stopped", "watch"): 1, ("away", "wrong"): others}, 30, states)
    page = ask(f"/workers/{ONE.name}?lang=en")[2]
    assert "◆ stopped on purpose" in page and "▲ away" in ask("/?lang=en")[2]
    assert "◆ 일부러 멈춤" in ask("/?lang=ko")[2]
    assert values(ask("/metrics")[2])[f'fleet_worker_state{{state="stopped",worker="{ONE.name}"}}'] == 1
    assert json.loads(ask("/healthz")[2])["reason"] == "workers"
    path.unlink()
    until("it is missing", lambda: states() == {("away", "wrong"): others + 1}, 30, states)


def test_pressure_has_a_reason(scene: Scene) -> None:
    """Without workers: 503 and the reason in one word."""
    code, _, text = ask("/pressure")
    said = json.loads(text)
    assert (code, said["reason"], said["away"]) == (503, "workers", len(FLEET.members))


def test_a_reason_for_each_cause() -> None:
    """A full disk comes before missing workers, both before a stuck queue; a job that is due just now is no reason."""
    assert pressure(full=True, away=True, since=0, now=1000) == "disk"
    assert pressure(full=False, away=True, since=0, now=1000) == "workers"
    assert pressure(full=False, away=False, since=900, now=1000) == "queue"
    assert pressure(full=False, away=False, since=990, now=1000) == ""
    assert pressure(full=False, away=False, since=None, now=1000) == "" and could_begin_since([]) is None


@pytest.mark.parametrize(
    ("changes", "now", "state"),
    [
        ({}, 1100, "fresh"),
        ({"last_good_at": 1000.0}, 1000 + 2 * 300 + 59, "fresh"),
        ({"last_good_at": 1000.0}, 1000 + 2 * 300 + 61, "late"),
        ({"last_good_at": 1000.0, "paused": True}, 9000, "paused"),
        ({"fence": 3}, 1100, "late"),
        ({}, 1000 + 2 * 300 + 61, "late"),
        ({"repeat": Cron("0 9 * * 1-5", "Asia/Seoul"), "last_good_at": 1764288000.0}, 1764288000 + 3 * 86_400, "fresh"),
        ({"repeat": Cron("0 9 * * 1-5", "Asia/Seoul"), "last_good_at": 1764288000.0}, 1764288000 + 5 * 86_400, "late"),
    ],
)
def test_a_watch_is_late_after_two_of_its_times(changes: dict[str, object], now: float, state: str) -> None:
    """By an interval or by cron, over a week-end too; not while its site is paused."""
    usual: dict[str, object] = {"job": 1, "key": None, "site": "a", "task": "visit", "state": "ready", "fence": 0}
    usual |= {"scheduled_at": 1000.0, "repeat": Interval(300), "paused": False, "last_at": None, "last_good_at": None}
    assert state_of(Watch(**{**usual, **changes}), now) == state  # type: ignore[arg-type]


def test_what_a_worker_says_makes_no_series() -> None:
    """Stages of any name are one series, what is no number is nothing, and no loss goes back."""
    made = Metrics()
    stages = {"load": 1500, "x" * 300: 5, "load\n": 7, "proof": "much", "tunnel": -1}
    details = {"stages_ms": stages, "network_changed": 2, "other_losses": -5}
    made.ended("w1", Finished(job=1, fence=1, outcome="good", details=details))  # type: ignore[arg-type]
    made.ended("w1", Finished(job=1, fence=2, outcome="failed", details={"stages_ms": [1]}))
    found = values(made.text(None, Room(folder=Path("/"), free_mebibytes=9, least_mebibytes=1)).decode())
    named = {match for name in found if (match := re.match(r'fleet_stage_seconds_count{stage="(.*)"}', name))}
    assert {one.group(1) for one in named} == {"load", "other"} and "load" in STAGES
    assert found['fleet_stage_seconds_count{stage="other"}'] == 2
    assert found['fleet_stage_seconds_sum{stage="load"}'] == 1.5
    assert found['fleet_worker_requests_lost_total{why="network_changed",worker="w1"}'] == 2
    assert found['fleet_worker_requests_lost_total{why="other",worker="w1"}'] == 0
    assert found["fleet_database_up"] == 0 and found['fleet_pressure{reason="database"}'] == 1


def test_the_queue_in_numbers(queue: Queue) -> None:
    """Ready, running and aside; of what repeats the last good run: the same on both engines."""
    hub = queue.hub("a")
    hub.store.add([Job(site="s", task="t", key=str(number), attempts=1) for number in range(3)])
    first, second = hub.claim(2)
    hub.end(first, "failed")
    hub.store.add([Job(site="s", task="t", key="again", repeat=Interval(5))])
    counted = backlog(queue.database)
    assert (counted.ready, counted.leased, counted.aside, counted.unsent, counted.alerts) == (2, 1, 1, 0, 0)
    (watch,) = watches(queue.database)
    assert (watch.key, watch.repeat, watch.last_good_at, watch.paused) == ("again", Interval(5), None, False)
    hub.end(second)
    for one in hub.claim(2):
        hub.end(one)
    (watch,) = watches(queue.database)
    assert watch.last_good_at is not None and watch.fence == 1


def test_alert_rules_fire_for_their_cause(root: None, tmp_path: Path) -> None:
    """promtool plays every rule, calm and in trouble; a rule that is broken is seen (control)."""
    folder = DEPLOY / "prometheus"
    judged = promtool("test", "rules", "fleet.rules.test.yml", folder=folder)
    assert judged.returncode == 0, judged.stdout + judged.stderr
    rules = (folder / "fleet.rules.yml").read_text()
    tests = (folder / "fleet.rules.test.yml").read_text()
    assert all(tests.count(f"alertname: {name}") >= 2 for name in re.findall(r"alert: (\w+)", rules))
    (tmp_path / "fleet.rules.test.yml").write_text(tests)
    (tmp_path / "fleet.rules.yml").write_text(rules.replace('state="late"} > 0', 'state="late"} > 9'))
    assert promtool("test", "rules", "fleet.rules.test.yml", folder=tmp_path).returncode == 1


def test_rules_and_dashboard_name_what_there_is(scene: Scene) -> None:
    """Every metric in them is one of the page's, and every panel takes the data source that is chosen."""
    text = ask("/metrics")[2]
    families = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}
    known = families | {f"{name}_bucket" for name in families}
    board = json.loads((DEPLOY / "grafana/fleet.json").read_text())
    used = " ".join(target["expr"] for panel in board["panels"] for target in panel["targets"])
    rules = re.findall(r"expr: (.*)", (DEPLOY / "prometheus/fleet.rules.yml").read_text())
    assert rules and set(NAME.findall(" ".join([used, *rules]))) <= known
    assert {panel["datasource"]["uid"] for panel in board["panels"]} == {"${datasource}"} and "__inputs" not in board
