"""Acts of a person on the hub's page, and who may do them: by HTTP, with another site's page as the attacker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from hub.queue import reading
from tests.hub_pages import ONE, TOKEN, Scene, ask, shown
from tests.waiting import until

OURS = {"Sec_Fetch_Site": "same-origin", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
THEIRS = {**OURS, "Sec_Fetch_Site": "cross-site"}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A hub with a page; its job 2 is set aside."""
    with shown(tmp_path_factory.mktemp("acting")) as made:
        yield made


def act(place: str, what: str, token: str = "", **headers: str) -> int:
    """Send a form to PLACE; returns the status of the answer."""
    return ask(place, "POST", urlencode({"what": what, "token": token}), **headers)[0]


def state(scene: Scene) -> str | None:
    """The state of job 2."""
    found = reading.job(scene.database, 2)
    return found["state"] if found else None


def test_who_has_no_token_changes_nothing(scene: Scene) -> None:
    """No token, a wrong one, a prefix, or the right one from another site's page: nothing changes, and it is logged."""
    for token in ("", "t", "x" * 20, f"{TOKEN}t", TOKEN[:-1]):
        assert act("/watches/2", "retry", token) == 401 and act("/sites/a.example", "pause", token) == 401
    assert act("/watches/2", "retry", TOKEN, **THEIRS) == 403
    assert act("/watches/2", "retry", TOKEN, Origin="http://evil.example") == 403
    assert state(scene) == "aside" and not any(site.paused for site in scene.store.sites())
    acts = json.loads(ask("/api/acts")[2])["acts"]
    assert {one["done"] for one in acts} == {"refused"} and TOKEN not in json.dumps(acts)
    assert (scene.paths.root / "hub.log").read_text().count("page.act") in (1, 2, 3), "a stranger fills no disk"
    assert act("/sites/a.example", "delete", TOKEN) == 400
    assert ask("/sites/a.example", "POST", "x" * 5000)[0] == 413


def test_who_has_it_does(scene: Scene) -> None:
    """A site is paused and resumed, a job retried; an unknown one is reported; all of it is logged."""
    assert act("/sites/a.example", "pause", TOKEN, **OURS) == 303
    assert [site.paused for site in scene.store.sites() if site.name == "a.example"] == [True]
    until("the page says so", lambda: "◆ paused" in ask("/sites/a.example?lang=en")[2], 30)
    assert act("/sites/a.example", "resume", "", Authorization=f"Bearer {TOKEN}") == 303
    assert not any(site.paused for site in scene.store.sites())
    assert act("/sites/nowhere.example", "pause", TOKEN) == 404
    assert act("/watches/2", "retry", TOKEN) == 303 and state(scene) == "ready"
    acts = json.loads(ask("/api/acts")[2])["acts"]
    assert [(one["what"], one["of"], one["done"]) for one in acts[:4]] == [
        ("retry", "2", "done"),
        ("pause", "nowhere.example", "unknown"),
        ("resume", "a.example", "done"),
        ("pause", "a.example", "done"),
    ]
    assert "a.example" in ask("/acts?lang=ko")[2]
    log = (scene.paths.root / "hub.log").read_text()
    assert log.count("page.act") >= 5 and TOKEN not in log


def test_only_what_the_settings_name_is_offered(scene: Scene) -> None:
    """An act that `hub.web.acts` does not name has no button and is refused; a named one still needs the token."""
    page = ask(f"/workers/{ONE.name}?lang=en")[2]
    assert [what for what in ("stop", "start", "rotate") if f'value="{what}"' in page] == ["stop", "start"]
    assert act(f"/workers/{ONE.name}", "rotate", TOKEN) == act(f"/workers/{ONE.name}", "pause", TOKEN) == 400
    assert act(f"/workers/{ONE.name}", "stop") == 401
    assert act(f"/workers/{ONE.name}", "stop", TOKEN, **THEIRS) == 403


def test_what_could_not_be_done_is_said(scene: Scene) -> None:
    """A worker that does not exist is unknown; if the program that acts does not answer, the page says so."""
    assert act("/workers/netctl", "stop", TOKEN) == act("/workers/w9999", "start", TOKEN) == 404
    code, _, text = ask(f"/workers/{ONE.name}?lang=en", "POST", urlencode({"what": "stop", "token": TOKEN}))
    assert code == 503 and "no program answers at" in text, text
    acts = [(one["what"], one["of"], one["done"]) for one in json.loads(ask("/api/acts")[2])["acts"]]
    assert acts[:2] == [("stop", ONE.name, "failed"), ("start", "w9999", "unknown")]
    assert "not done" in ask("/acts?lang=en")[2]
    for what, token, words in (("pause", "x", "토큰이 없거나 다릅니다."), ("x", TOKEN, "답할 수 없는 요청")):
        form = urlencode({"what": what, "token": token})
        assert words in ask("/sites/a.example?lang=ko", "POST", form)[2]


def test_who_is_refused_hides_nothing(scene: Scene) -> None:
    """However often a user of this host tries, acts that were done are still logged."""
    assert act("/sites/a.example", "resume", TOKEN) == 303
    assert {act("/sites/a.example", "pause") for _ in range(210)} == {401}
    acts = [(one["what"], one["done"]) for one in json.loads(ask("/api/acts")[2])["acts"]]
    assert acts[0] == ("pause", "refused") and ("resume", "done") in acts
