"""The hub's page over HTTP: whom it answers, what it says, and what becomes of a stranger's words. Needs no root."""

from __future__ import annotations

import hashlib
import http.client
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from fleet import snapshot
from fleet.db import Database
from fleet.model import Paths
from fleet.outcomes import Ending
from fleet.programs import Installation
from fleet.snapshot import Snapshot
from hub.outbox import recorder
from hub.queue.store import Host, Store
from hub.queue.upgrade import upgrade
from hub.queue.values import Finished, Job, Pace, Picture
from tests.hubs import FLEET
from tests.waiting import until

PORT = 8470
ONE, *_ = FLEET.members
SCRIPT = "<script>document.title='taken'</script><img src=x onerror=document.title='taken'>"
TURNED = "\u202egnp"
WHOLE = {**FLEET.model_dump(), "hub": {"jobs": "first", "web": {"port": PORT}}}
PNG = b"\x89PNG of a page"
NAME = "job-1-000001.png"
ELSEWHERE = Host("elsewhere", "life")


@dataclass(frozen=True)
class Scene:
    """A hub with a page, and the same queue."""

    paths: Paths
    store: Store

    def run(self, key: str, outcome: Ending, **more: Any) -> None:
        """A job that has ended so, by ONE."""
        self.store.add([Job(site="a.example", task="visit", key=key, attempts=1)])
        (work,) = self.store.claim(ELSEWHERE, [ONE.name]).jobs
        self.store.finish([Finished(job=work.job, fence=work.fence, outcome=outcome, **more)])


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A good run with a picture, whose words are markup, and one that failed."""
    paths = Paths(root=tmp_path_factory.mktemp("page"))
    installation = Installation(paths=paths)
    for path in (paths.hub_socket, paths.snapshot, paths.hub_database, paths.spool(ONE) / NAME):
        path.parent.mkdir(parents=True, exist_ok=True)
    (paths.spool(ONE) / NAME).write_bytes(PNG)
    snapshot.write(Snapshot(release=installation.release, fleet=type(FLEET).model_validate(WHOLE)), paths)
    database = Database(FLEET.hub.address(paths))
    upgrade(database)
    pace, record = Pace(interval_seconds=0, most=100), recorder("elsewhere")
    made = Scene(paths, Store(database, lambda: None, pace, record=record))
    made.store.enlist(ELSEWHERE, 1000, version="", settings="")
    picture = Picture(name=NAME, sha256=hashlib.sha256(PNG).hexdigest(), size_bytes=len(PNG))
    stages: dict[str, Any] = {"stages_ms": {"load": 7, SCRIPT: 3}}
    made.run(SCRIPT, "good", answer={"title": SCRIPT, "price": 3}, details=stages, pictures=(picture,))
    made.run("second", "failed", error=f"{SCRIPT}{TURNED}")
    with (paths.root / "hub.log").open("wb") as log:
        argv = installation.module("hub", "serve")
        hub = subprocess.Popen(argv, env=installation.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        until("the page", lambda: status("/healthz") > 0, 30, lambda: (paths.root / "hub.log").read_text()[-2000:])
        yield made
    finally:
        hub.terminate()
        assert hub.wait(20) == 0
        database.close()


def ask(path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    """Status, headers and text of an answer."""
    with_host = {"Host": f"127.0.0.1:{PORT}", **{name.replace("_", "-"): value for name, value in headers.items()}}
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=20)
    try:
        connection.request(method, path, headers=with_host)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode(errors="replace")
    finally:
        connection.close()


def status(path: str, method: str = "GET", **headers: str) -> int:
    """That of an answer; 0 where nobody listens."""
    try:
        return ask(path, method, **headers)[0]
    except OSError:
        return 0


def test_names_and_pages_of_strangers_are_refused(scene: Scene) -> None:
    """A Host of somebody's DNS and what another site's page asks for get nothing; a link is followed (control)."""
    assert status("/") == 200 and status("/", Host="localhost:9") == 200
    assert status("/", Host="evil.example") == 403 and status("/api/fleet", Host=f"evil.example:{PORT}") == 403
    assert status("/api/fleet", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors", Sec_Fetch_Dest="image") == 403
    assert status("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="iframe") == 403
    assert status("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document") == 200


def test_nothing_can_be_changed(scene: Scene) -> None:
    """Whoever may open the page only reads."""
    for path in ("/", "/jobs", "/api/jobs", "/results"):
        assert {status(path, method) for method in ("POST", "PUT", "DELETE")} == {405}


def test_words_of_strangers_are_text(scene: Scene) -> None:
    """A key, an answer and a reason that are markup reach the page as letters; what turns text round by its number."""
    for path in ("/results", "/results/1.1", "/results/2.1", "/jobs"):
        code, headers, text = ask(path)
        assert code == 200 and "<script>doc" not in text and "<img src=x" not in text and "\u202e" not in text, path
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "require-trusted-types-for 'script'" in headers["content-security-policy"]
    assert "&lt;script&gt;" in ask("/results/1.1")[2] and "\\u202e" in ask("/results/2.1")[2]


def test_programs_get_the_same_as_json(scene: Scene) -> None:
    """Each address under /api is described, and answers; lists come in pages; what is wrong with a question is said."""
    described = json.loads(ask("/openapi.json")[2])
    assert {*described["paths"]} == {"/api/fleet", "/api/results", "/api/results/{job}.{fence}", "/api/jobs"}
    until("both runs of ONE", lambda: ticks(ONE.name) == ["good", "failed"], 10)
    results = json.loads(ask("/api/results")[2])
    assert [(each["job"], each["outcome"]) for each in results["runs"]] == [(2, "failed"), (1, "good")]
    after = json.loads(ask("/api/results?from=2.1")[2])
    assert [each["job"] for each in after["runs"]] == [1] and after["next"] == ""
    assert json.loads(ask("/api/results/1.1")[2])["answer"]["price"] == 3
    assert [each["id"] for each in json.loads(ask("/api/jobs?state=aside")[2])["jobs"]] == [2]
    for wrong in ("/api/results?from=x", "/api/jobs?after=-1", "/api/results?outcome=nice"):
        assert status(wrong) == 400, wrong
    assert status("/api/results/9.9") == status("/results/9.9") == status("/nowhere") == 404


def ticks(name: str) -> list[str]:
    """The outcomes on the card of a worker; a look that is a second old is shown once more."""
    workers = json.loads(ask("/api/fleet")[2])["workers"]
    assert {card["name"] for card in workers} == {worker.name for worker in FLEET.members}
    return [tick["outcome"] for card in workers if card["name"] == name for tick in card["ticks"]]


def test_a_picture_is_shown_while_it_is_what_it_was(scene: Scene) -> None:
    """Its bytes under its own kind; changed by its worker afterwards, there is none, nor any other file."""
    code, headers, _ = ask(f"/pictures/1.1/{NAME}")
    assert (code, headers["content-type"]) == (200, "image/png")
    assert status("/pictures/1.1/..%2f..%2f..%2fetc%2fpasswd") == 404
    assert status("/pictures/1.1/job-1-000001.json") == 404
    path = scene.paths.spool(ONE) / NAME
    path.write_bytes(PNG + b" ")
    assert status(f"/pictures/1.1/{NAME}") == 404
    path.write_bytes(PNG)
    assert status(f"/pictures/1.1/{NAME}") == 200


def test_the_first_look_is_live(scene: Scene) -> None:
    """First come all cards, then those alone that have changed, as text; a hub that stops ends it (see the fixture)."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=20)
    connection.request("GET", "/live?lang=ko", headers={"Host": f"localhost:{PORT}"})
    lines = iter(connection.getresponse().readline, b"")

    def heard() -> Any:
        return next(json.loads(line[6:]) for line in lines if line.startswith(b"data: "))

    assert len(heard()["cards"]) == len(FLEET.members) + 1
    scene.run("live", "empty")
    changed = heard()["cards"]
    assert [card["id"] for card in changed] == [f"w-{ONE.name}", "s-a.example"]
    assert changed[0]["ticks"][-1]["outcome"] == "empty" and "비어 있음" in changed[0]["ticks"][-1]["title"]
    connection.close()


def test_health_has_a_reason(scene: Scene) -> None:
    """No worker is there: 503 and the word, for people and programs."""
    code, _, text = ask("/healthz")
    assert (code, json.loads(text)["reason"]) == (503, "workers")
    assert "No worker is there" in ask("/?lang=en")[2] and "워커가 하나도 없습니다" in ask("/?lang=ko")[2]
