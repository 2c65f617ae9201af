"""Jobs in a real fleet: from the operator's command to the result, with programs killed meanwhile.

`--jobs 200` is the full test: eight workers on a PostgreSQL, which is killed too.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pydantic import JsonValue

from fleet.errors import ExitCode
from fleet.model import Worker
from lab.net import Lab
from lab.run import Changes, paths
from tests import postgresql
from tests.inside import program, speaking
from tests.system.jobbing import PORT, TOKEN, Jobs
from tests.waiting import until

FIRST_UID = 1261
HUB = "fleet-hub"
TARGET = 8090
"""The port of a server that gets all answers."""
MOODS = ("503", "lost", "silent", "again", "reset", "500")
MUCH = 50
PROGRAMS = ("hub", "worker", "netctl", "supervisord")
WORK = 2
"""Allocations that the same server gives out."""
OWNER = f"http://127.0.0.1:{TARGET}"
SOURCE: Changes = {
    "hub.source": {"url": f"{OWNER}/work", "insecure_http": True, "site": "shop.example", "attempts": 99},
    "hub.source.arguments": {"query": "/keyword"},
    "hub.source.picture": {"url": f"{OWNER}/pictures/{{id}}", "address": "/data/url"},
    "hub.source.result": {"url": f"{OWNER}/results/{{id}}"},
    "hub.source.result.body": {'"/query"': "/run/answer/query", '"/image"': "/picture_or_outcome"},
}


@pytest.fixture(scope="module")
def many(request: pytest.FixtureRequest) -> int:
    """How many jobs are done under the storm of kills."""
    return int(request.config.getoption("--jobs"))


@pytest.fixture(scope="module")
def fleet(bare: Lab, many: int) -> Iterator[Jobs]:
    """A running fleet of two workers, or of eight for many jobs."""
    target: dict[str, JsonValue] = {"url": f"{OWNER}/", "insecure_http": True, "timeout_seconds": 2}
    with postgresql.running(safe=True) if many >= MUCH else contextlib.nullcontext() as server:
        hub: dict[str, JsonValue] = {"jobs": "only", "database": server.fresh() if server else ""}
        token = paths(bare).root / "page-token"
        token.write_text(TOKEN)
        token.chmod(0o644)
        web: dict[str, JsonValue] = {"port": PORT, "token_file": str(token), "acts": ["stop", "start", "rotate"]}
        changes: Changes = {"hub": hub, "hub.web": web, "hub.targets.owner": target, **SOURCE}
        made = Jobs(bare, 8 if server else 2, first_uid=FIRST_UID, changes=changes)
        made.server = server
        made.prepare()
        made.says("db", "upgrade")
        try:
            made.says("up")
            yield made
        finally:
            made.says("down")


def test_from_words_to_results(fleet: Jobs) -> None:
    """A job with its own query gives its answer, the exit and the picture's checksum; no worker did [task] meanwhile.

    A page that robots.txt disallows is not opened. Jobs for several exits leave at these exits.
    """
    private = {"task": "visit", "arguments": {"urls": ["https://shop.example/private"]}}
    keys = json.loads(fleet.command("keys", "list", "--json", check=True).stdout)
    servers = sorted({one["server"] for one in keys})
    job, bad, left_alone, *each = fleet.add(
        {"arguments": {"query": "녹차"}},
        {"arguments": {"result_items": "//li"}, "attempts": 1},
        private,
        {**private, "exits": servers},
    )
    done = fleet.wait_for([job, bad, left_alone, *each])
    assert {len(runs) for runs in done.values()} == {1}, done
    fleet.before += len(done)
    (run,), (failed,), (refused,) = done[job], done[bad], done[left_alone]
    assert [done[one][0]["exit"] for one in each] == servers
    assert refused["outcome"] == "refused" and "robots.txt" in refused["error"], refused
    assert (run["outcome"], run["answer"]["query"], run["fence"]) == ("good", "녹차", 1), run
    assert run["exit"] and run["details"]["requests"] > 0 and run["details"]["stages_ms"]["search"] > 0
    assert failed["outcome"] == "failed" and "XPath" in failed["error"]
    unknown = fleet.operate("job", "add", "--file", "-", input='{"arguments": {"quarry": "x"}}', stdin=None)
    assert unknown.returncode == ExitCode.USAGE and "line 1: arguments: there is no 'quarry'" in unknown.stderr, unknown
    shown = json.loads(fleet.says("result", "show", str(job), "--json"))
    (picture,) = shown["pictures"]
    assert hashlib.sha256(Path(picture["file"]).read_bytes()).hexdigest() == picture["sha256"]
    spools = [fleet.paths.spool(worker) for worker in fleet.fleet.members]
    assert not [path for spool in spools for path in spool.glob("always-*")]


def test_a_worker_is_stopped_started_and_rotated_on_the_page(fleet: Jobs) -> None:
    """Rotated, its tunnel ends, and its next job has another one. Stopped, it stays down, also through `fleet reload`,
    until it is started on the page, which shows its state. The page shows the keys as `netctl keys list` does.
    """
    (job,) = fleet.add({"arguments": {"query": "차"}})
    (done,) = fleet.wait_for([job])[job]
    keys = json.loads(fleet.command("keys", "list", "--json", check=True).stdout)
    shown = json.loads(fleet.host(["curl", "-sS", f"http://127.0.0.1:{PORT}/api/keys"], check=True).stdout)["servers"]
    assert Counter(one["server"] for one in keys) == {one["server"]: one["keys"] for one in shown}, shown
    names = [worker.name for worker in fleet.fleet.members]
    before = fleet.slot(names.index(done["worker"]))
    code, words = fleet.act(done["worker"], "rotate")
    assert code == 303, words
    fleet.wait_until_sealed(names.index(done["worker"]))
    assert before["state"] == "connected"
    for name in names:
        assert fleet.act(name, "stop")[0] == 303
    until("all have ended", lambda: {fleet.state(name) for name in names} == {"STOPPED"}, 60)

    def shown_states() -> set[str]:
        found = json.loads(fleet.host(["curl", "-sS", f"http://127.0.0.1:{PORT}/api/fleet"], check=True).stdout)
        return {one["state"] for one in found["workers"]}

    until("the page says that they were stopped", lambda: shown_states() == {"stopped"}, 60, shown_states)
    try:
        for seconds in (31, None):
            fleet.configure({"loop": {"pause_seconds": seconds}} if seconds else {})
            said = fleet.operate("reload").stderr
            assert "applied: loop.pause_seconds" in said, said
            assert {fleet.state(name) for name in names} == {"STOPPED"}
    finally:
        fleet.configure()
        codes = [fleet.act(name, "start") for name in names]
    assert {code for code, _ in codes} == {303}, codes
    (job,) = fleet.add({"arguments": {"query": "차"}})
    assert fleet.wait_for([job])[job][-1]["outcome"] == "good"
    fleet.before += 2


def test_the_page_and_the_queue_follow_workers_that_join_and_leave(fleet: Jobs) -> None:
    """A worker added by `fleet reload` does jobs, and the page stops and starts it; a removed one is unknown there."""
    names = [worker.name for worker in fleet.fleet.members]
    name = Worker(uid=FIRST_UID + len(names)).name

    def reload(count: int) -> None:
        fleet.configure({"workers": {"count": count}})
        fleet.says("reload")
        fleet.page()

    fleet.page()
    assert fleet.act(name, "stop")[0] == 404
    reload(len(names) + 1)
    try:
        for one in names:
            assert fleet.act(one, "stop")[0] == 303
        until("they have ended", lambda: {fleet.state(one) for one in names} == {"STOPPED"}, 60)
        (job,) = fleet.add({"arguments": {"query": "차"}})
        assert [run["worker"] for run in fleet.wait_for([job])[job]] == [name]
        assert fleet.act(name, "stop")[0] == 303
        until("it has ended", lambda: fleet.state(name) == "STOPPED", 60)
        assert fleet.act(name, "start")[0] == 303
    finally:
        codes = [fleet.act(one, "start")[0] for one in names]
        reload(len(names))
    assert codes == [303] * len(names)
    assert fleet.act(name, "stop")[0] == 404
    fleet.before += 1


def processes(user: str, word: str) -> list[psutil.Process]:
    """The processes of USER with WORD on their command lines."""
    found = psutil.process_iter(["username", "cmdline"])
    return [one for one in found if one.info["username"] == user and word in " ".join(one.info["cmdline"] or [])]


def kill(fleet: Jobs, program: str, own: random.Random) -> None:
    """Send SIGKILL to PROGRAM once a browser is working, and wait until it runs again."""
    names = [worker.name for worker in fleet.fleet.members]
    until("a browser at work", lambda: any(processes(name, "--type=renderer") for name in names), 60)
    if program == "postgresql":
        assert fleet.server
        fleet.server.kill()
        fleet.server.start()
        return
    user, word = {
        "worker": (own.choice(names), "worker run"),
        "hub": (HUB, "hub serve"),
        "netctl": ("netctl", "netctl serve"),
        "supervisord": ("root", "supervisor.supervisord"),
    }[program]
    victims = until(program, lambda: processes(user, word), 30)
    for victim in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
    if program == "supervisord":
        psutil.wait_procs(victims, 10)
        fleet.says("up")
    until(f"{program} again", lambda: set(processes(user, word)) - {*victims}, 60)


def test_a_storm_of_kills_loses_and_doubles_no_job(fleet: Jobs, many: int) -> None:
    """Workers, hub, netctl, supervisord and PostgreSQL are killed: every job ends once as good, whatever was lost
    before. That end reaches the target with its picture, although the target was down and does not take all at once.
    """
    own = random.Random(1)
    fleet.says("site", "pace", "shop.example", "--interval-seconds", "0", "--most", "8")
    waiting = sum(one["waiting"] for one in json.loads(fleet.says("result", "uploads", "--json")))
    assert waiting == fleet.before, "of the test before"
    with speaking(fleet.lab, "host", program(fleet.lab, "owner", str(TARGET), str(WORK), *MOODS), "ready") as target:
        jobs = fleet.add(*({"key": f"storm-{number}", "attempts": 100} for number in range(many)))
        victims = [*PROGRAMS, "postgresql"] if fleet.server else [*PROGRAMS]
        for number in range(max(len(victims), many // 5)):
            if number % len(victims) == 0:
                own.shuffle(victims)
            kill(fleet, victims[number % len(victims)], own)
        done = fleet.wait_for(jobs, 60 + 10 * many)
        until("nothing waits", lambda: drained(fleet), 60)
        said = [json.loads(line) for line in target.rest()]
    for job, runs in done.items():
        assert [run["fence"] for run in runs] == list(range(1, len(runs) + 1)), job
        assert [run["outcome"] for run in runs if run["outcome"] not in ("lost", "failed")] == ["good"], runs
        assert runs[-1]["outcome"] == "good", runs
    counts = Counter(run["outcome"] for runs in done.values() for run in runs)
    print(f"{many} jobs, {len(fleet.fleet.members)} workers: {dict(counts)}, {len(said)} told")
    answers = {json.dumps(one["answer"], sort_keys=True) for one in said if "answer" in one}
    assert sorted(json.loads(one)["query"] for one in answers) == [f"차 {number}" for number in range(WORK)]
    assert all("https://pictures.example/" in one for one in answers), answers
    at_target = {one["run"]: one.get("picture") for one in said if "run" in one}  # told again it says the same
    ends = {(run["job"], run["fence"]): run["pictures"] for run in map(json.loads, at_target)}
    assert ends.keys() >= {(job, runs[-1]["fence"]) for job, runs in done.items()}
    assert len(ends) == len(at_target) == many + fleet.before + WORK, ends.keys()
    for run, sum_of_file in at_target.items():
        assert [picture["sha256"] for picture in json.loads(run)["pictures"]] == [sum_of_file] * bool(sum_of_file)


def drained(fleet: Jobs) -> bool:
    """Whether everything is done and delivered; deliveries that wait for a retry are retried now."""
    fleet.says("result", "upload-again")
    left = [one for one in json.loads(fleet.says("job", "list", "--json")) if one["state"] != "aside"]
    return not left and not json.loads(fleet.says("result", "uploads", "--json"))


def test_the_hub_has_no_rights(fleet: Jobs) -> None:
    """It has no capability and cannot gain one; of a worker's files it can only read results; it cannot read keys."""
    (hub,) = processes(HUB, "hub serve")
    lines = Path(f"/proc/{hub.pid}/status").read_text().splitlines()
    status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    assert {name: value for name, value in status.items() if name.startswith("Cap") and int(value[0], 16)} == {}
    assert status["NoNewPrivs"] == ["1"] and len({*status["Uid"]}) == 1 and status["Uid"] != ["0"] * 4
    worker = fleet.worker()
    spool, private = fleet.paths.spool(worker), fleet.paths.home(worker) / "private"
    private.write_text("x")
    private.chmod(0o600)
    as_hub = ["setpriv", f"--reuid={HUB}", "--regid=fleet", f"--groups={HUB}"]
    assert fleet.host([*as_hub, "ls", str(spool)]).returncode == 0
    for words in (["cat", str(private)], ["touch", str(spool / "x")], ["ls", str(fleet.paths.key_store.parent)]):
        assert fleet.host([*as_hub, *words]).returncode != 0, words
    neighbour = fleet.as_worker(fleet.worker(1), "ls", str(fleet.paths.home(worker)))
    assert fleet.host(neighbour).returncode != 0


def test_a_file_is_read_by_whoever_names_it(fleet: Jobs, tmp_path: Path) -> None:
    """`job apply FILE` and `job add --file FILE` accept a file that only root may read; their messages name it."""
    plan, table = tmp_path / "plan.toml", tmp_path / "jobs.csv"
    for file in (plan, table):
        file.touch(mode=0o600)
    plan.write_text('name = "later"\nusual.not_before = "2999-01-01T00:00Z"\n[jobs.one]\narguments.query = "desk"\n')
    said = fleet.operate("job", "apply", str(plan))
    assert said.returncode == ExitCode.WOULD_CHANGE and f"job apply --yes {plan}" in said.stdout, said
    assert "+ later/one" in fleet.says("job", "apply", "--yes", str(plan))
    plan.write_text('name = "later"\n')
    assert "- later/one" in fleet.says("job", "apply", "--yes", str(plan))
    table.write_text("query,every\ndesk,x\n")
    said = fleet.operate("job", "add", "--file", str(table))
    assert said.returncode == ExitCode.USAGE and f"{table}, line 2: every" in said.stderr, said
