"""The hub's page over HTTP: whom it answers, what it says, and what becomes of a stranger's words."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse

from hub.web.app import application
from hub.web.guard import Guard
from hub.web.states import States
from netctl.plan.key import Secret
from tests.hub_pages import NAME, ONE, PNG, PORT, TOKEN, Scene, ask, shown, status
from tests.hubs import FLEET
from tests.waiting import until

PAGES = {
    "/api/fleet": "/",
    "/api/results": "/results",
    "/api/results/{job}.{fence}": "/results/1.1",
    "/api/jobs": "/jobs",
    "/api/watches/{job}": "/watches/1",
    "/api/workers/{name}": f"/workers/{ONE.name}",
    "/api/sites/{name}": "/sites/a.example",
    "/api/exits": "/exits",
    "/api/keys": "/keys",
    "/api/acts": "/acts",
    "/api/around/{job}.{fence}": "/around/1.1",
}
"""Each address of a program, and a page that shows the same."""
STATES = {"/healthz": "/healthz", "/pressure": "/pressure"}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A hub with a page."""
    with shown(tmp_path_factory.mktemp("page")) as made:
        yield made


def test_names_and_pages_of_strangers_are_refused(scene: Scene) -> None:
    """A Host of somebody's DNS and what another site's page asks for get nothing; a link is followed (control)."""
    assert status("/") == 200 and status("/", Host="localhost:9") == 200
    assert status("/", Host="evil.example") == 403 and status("/api/fleet", Host=f"evil.example:{PORT}") == 403
    assert status("/api/fleet", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors", Sec_Fetch_Dest="image") == 403
    assert status("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="iframe") == 403
    assert status("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document") == 200


def test_no_address_leads_elsewhere(scene: Scene) -> None:
    """The address that was asked for is no part of a link: one that looks like another host's least of all."""
    code, _, text = ask("//evil.example/%22%3E?lang=en")
    assert code == 404 and 'href="?lang=ko"' in text and "evil" not in text


def test_without_the_guard_they_are_heard() -> None:
    """The control: what is behind the guard answers everybody, and only the guard refuses a name and a site."""

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("heard")(scope, receive, send)

    async def codes(app: Any) -> list[int]:
        address = f"http://127.0.0.1:{PORT}"
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=address) as client:
            return [(await client.get("/", headers=headers)).status_code for headers in ({}, *strange)]

    strange = ({"host": "evil.example"}, {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"})
    assert asyncio.run(codes(behind)) == [200, 200, 200]
    assert asyncio.run(codes(Guard(behind))) == [200, 403, 403]


def test_nothing_can_be_changed(scene: Scene) -> None:
    """Whoever may open the page only reads."""
    for path in ("/", "/jobs", "/api/fleet", "/results"):
        assert {status(path, method) for method in ("POST", "PUT", "DELETE")} == {405}


def test_who_has_the_token_adds_jobs(scene: Scene) -> None:
    """JSON Lines are jobs, each key once; without the token, with a function for a task, or with mistakes: none."""
    job = json.dumps({"site": "b.example", "task": "visit", "key": "told", "not_before": "2100-01-01T00:00Z"})

    def post(body: str, token: str = TOKEN) -> tuple[int, str]:
        code, _, text = ask("/api/jobs", "POST", body, Authorization=f"Bearer {token}")
        return code, text

    assert {post(job, token)[0] for token in ("", "t", "x" * 20, f"{TOKEN}t")} == {401}
    assert ask("/api/jobs", "POST", job)[0] == 401
    function = json.dumps({"site": "b.example", "task": "os:system"})
    assert {post(body)[0] for body in ("", "{", function, '{"site": "b.example", "nice": 1}')} == {400}
    assert post("x" * (2 << 20))[0] == 413
    assert json.loads(ask("/api/jobs?site=b.example")[2])["jobs"] == []
    assert [json.loads(text)[0]["added"] for _, text in (post(job), post(job))] == ["new", "there"]
    (found,) = json.loads(ask("/api/jobs?site=b.example")[2])["jobs"]
    assert (found["key"], found["state"]) == ("told", "ready")
    assert TOKEN not in (scene.paths.root / "hub.log").read_text()


def test_words_of_strangers_are_text(scene: Scene) -> None:
    """A key, an answer and a reason that are markup reach the page as letters; what turns text round by its number."""
    for path in ("/results", "/results/1.1", "/results/2.1", "/jobs", "/keys", "/watches/1", "/around/2.1"):
        code, headers, text = ask(path)
        assert code == 200 and "<script>doc" not in text and "<img src=x" not in text and "\u202e" not in text, path
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "require-trusted-types-for 'script'" in headers["content-security-policy"]
    assert "&lt;script&gt;" in ask("/results/1.1")[2] and "\\u202e" in ask("/results/2.1")[2]


def test_programs_get_the_same_as_json(scene: Scene) -> None:
    """Each address under /api is described, and answers; lists come in pages; what is wrong with a question is said."""
    until("both runs of ONE", lambda: ticks(ONE.name) == ["good", "failed"], 10)
    results = json.loads(ask("/api/results")[2])
    assert [(each["job"], each["outcome"]) for each in results["runs"]] == [(2, "failed"), (1, "good")]
    after = json.loads(ask("/api/results?from=2.1")[2])
    assert [each["job"] for each in after["runs"]] == [1] and after["next"] == ""
    assert json.loads(ask("/api/results/1.1")[2])["answer"]["price"] == 3
    assert [each["id"] for each in json.loads(ask("/api/jobs?state=aside")[2])["jobs"]] == [2]
    hours = json.loads(ask("/api/sites/a.example")[2])["hours"]
    assert sorted((one["outcome"], one["runs"]) for one in hours) == [("failed", 1), ("good", 1)]
    assert f"<td>{hours[0]['runs']}</td>" in ask("/sites/a.example")[2]
    for wrong in ("/api/results?from=x", "/api/jobs?after=-1", "/api/results?outcome=nice"):
        assert status(wrong) == 400, wrong
    for place in {*PAGES.values()} - {"/"}:
        assert isinstance(json.loads(ask(f"/api{place}")[2]), dict) and status(place) == 200, place
    assert {status(place) for place in ("/workers/x", "/watches/99", "/around/1.9", "/api/sites/x%2Fy")} == {404}
    assert status("/api/results/9.9") == status("/results/9.9") == status("/nowhere") == 404


def test_every_address_of_a_program_is_described(scene: Scene) -> None:
    """As the routes are; what is referred to is there; an answer has what its description says."""
    described = json.loads(ask("/openapi.json")[2])
    routes = {(re.sub(":int|:path", "", path), method) for path, method in asyncio.run(addresses())}
    asked = {(path, method) for path, method in routes if path.startswith("/api/") or path in STATES}
    assert {(path, verb.upper()) for path, verbs in described["paths"].items() for verb in verbs} == asked
    schemas = described["components"]["schemas"]
    used = {*re.findall(r'"\$ref": "([^"]*)"', json.dumps(described))}
    assert used and used <= {f"#/components/schemas/{name}" for name in schemas}, used
    for path, place in {
        **{path: f"/api{page}" for path, page in PAGES.items()},
        "/api/fleet": "/api/fleet",
        **STATES,
    }.items():
        schema = described["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        wanted = schemas[schema["$ref"].rpartition("/")[2]]["properties"]
        assert {*json.loads(ask(place)[2])} == {*wanted}, path
    assert {*json.loads(ask("/api/results/9.9")[2])} == {*schemas["Refusal"]["properties"]}


async def addresses() -> set[tuple[str, str]]:
    """All that are answered, with their methods."""
    nothing: Any = None
    states, stopping = States(nothing, nothing, nothing), asyncio.Event()
    app: Any = application(FLEET, nothing, nothing, states, nothing, stopping=stopping)
    stopping.set()
    return {(route.path, method) for route in app.routes for method in route.methods - {"HEAD"}}


def ticks(name: str) -> list[str]:
    """The outcomes on the card of a worker; a look that is a second old is shown once more."""
    workers = json.loads(ask("/api/fleet")[2])["workers"]
    assert {card["name"] for card in workers} == {worker.name for worker in FLEET.members}
    return [tick["outcome"] for card in workers if card["name"] == name for tick in card["ticks"]]


def test_keys_are_shown_by_server(scene: Scene) -> None:
    """The worst server first, each with its numbers and why it failed; as JSON the same, and no key anywhere."""
    found = json.loads(ask("/api/keys")[2])["servers"]
    seen = [(one["region"], one["state"], one["level"], one["leased"], one["keys"]) for one in found]
    assert seen == [
        ("DE", "none_left", "wrong", 0, 1),
        ("JP", "usable", "fine", 1, 2),
        ("KR", "usable", "fine", 1, 2),
    ]
    assert found[0]["aside"] == 1 and found[0]["aside_until"] and "no answer from de-1" in found[0]["why"]
    page = ask("/keys?lang=ko")[2]
    assert page.index("de-1.vpn.example") < page.index("kr-1.vpn.example") and "쓸 키 없음" in page
    for secret in (bytes([number]) * 32 for number in range(1, 6)):
        for text in (base64.b64encode(secret).decode(), Secret(secret).public()):
            assert text not in page + ask("/api/keys")[2]


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

    assert len(heard()["cards"]) >= len(FLEET.members) + 1
    scene.run("live", "empty")
    changed: dict[str, Any] = {}
    while "empty" not in changed.get(f"w-{ONE.name}", {}).get("ticks", ()):
        changed |= {card["id"]: card for card in heard().get("cards", ())}
    assert changed[f"w-{ONE.name}"]["runs"].endswith("비어 있음")
    assert [name for name in changed if name.startswith("w-")] == [f"w-{ONE.name}"]
    connection.close()


def test_health_has_a_reason(scene: Scene) -> None:
    """No worker is there: 503 and the word, for people and programs."""
    code, _, text = ask("/healthz")
    assert (code, json.loads(text)["reason"]) == (503, "workers")
    assert "No worker is there" in ask("/?lang=en")[2] and "워커가 하나도 없습니다" in ask("/?lang=ko")[2]
