"""A page that is shown by a link: it allows viewing but no acts, and it expires."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from fleet import look
from fleet.errors import ExitCode
from fleet.programs import Installation
from tests.hub_pages import ONE, PORT, TOKEN, Scene, ask, shown, status

PLACES = ("/", "/results", "/results/1.1", "/jobs", "/exits", "/keys", "/acts", f"/workers/{ONE.name}", "/nowhere")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A hub whose page needs a link."""
    with shown(tmp_path_factory.mktemp("look"), readers="link") as made:
        yield made


def link(seconds: int = 3600, token: str = TOKEN) -> str:
    """A link that is valid for SECONDS."""
    return look.link(token, int(time.time()) + seconds)


def test_without_one_nothing_is_shown(scene: Scene) -> None:
    """No page, no JSON, no picture, no metrics; a link or the token shows them (control)."""
    for place in (*PLACES, "/api/fleet", "/live", "/healthz", "/pressure", "/metrics", "/openapi.json"):
        assert status(place) == status(f"{link(-1)}{place}") == status(f"{link(token='x' * 20)}{place}") == 401, place
    assert status("/api/fleet", Authorization="Bearer x") == status("/api/fleet", Authorization=TOKEN) == 401
    assert status("/api/fleet", Authorization=f"Bearer {TOKEN}") == status(f"{link()}/api/fleet") == 200
    assert status(f"{link()}/metrics") == status("/page.css") == 200


def test_whoever_has_one_goes_on_by_it(scene: Scene) -> None:
    """Every address on every page begins with it, also if untrusted text looks like a link."""
    by = link()
    for place in PLACES:
        code, headers, text = ask(f"{by}{place}?lang=en")
        assert code == (404 if place == "/nowhere" else 200), place
        found = re.findall(r'(?:href|src|action)="(/[^"]*)"', text)
        assert found and all(one.startswith(f"{by}/") for one in found), (place, found)
        assert f'data-look="{by}"' in text and headers["referrer-policy"] == "no-referrer"
    assert status(f"{by}/page.js") == 200


def test_who_may_look_may_not_act(scene: Scene) -> None:
    """Under a link, pausing a site needs the token, and the answer leads back to the link; no link makes a link."""
    by = link()

    def act(**form: str) -> tuple[int, dict[str, str], str]:
        return ask(f"{by}/sites/a.example?lang=en", "POST", urlencode({"what": "pause", **form}))

    assert act()[0] == act(token=by)[0] == act(token=by.rpartition("-")[2])[0] == 401
    assert ask(f"{by}/api/jobs", "POST", '{"site": "a.example"}')[0] == 401
    assert not any(site.paused for site in scene.store.sites())
    code, headers, _ = act(token=TOKEN)
    assert code == 303 and headers["location"].startswith(f"{by}/sites/a.example?"), headers
    assert [site.paused for site in scene.store.sites() if site.name == "a.example"] == [True]
    scene.store.pause("a.example", paused=False)


def test_another_token_ends_all_links(scene: Scene) -> None:
    """They end at once, and a link made with the new token opens the page."""
    by, file = link(), scene.paths.root / "token"
    assert status(f"{by}/") == 200
    file.write_text("n" * 20)
    try:
        assert status(f"{by}/") == 401 and status(f"{link(token='n' * 20)}/") == 200
        file.write_text("short")
        assert status(f"{by}/") == status("/") == status("/", Authorization="Bearer short") == 401
    finally:
        file.write_text(f"{TOKEN}\n")
    assert status(f"{by}/") == 200


def test_the_command_makes_one(scene: Scene) -> None:
    """`fleet page link`, which the hub's own program does: it opens the page; too long a time is refused."""
    installation = Installation(paths=scene.paths)

    def said(*words: str) -> subprocess.CompletedProcess[str]:
        argv = installation.module("hub", "page", "link", *words)
        return subprocess.run(argv, env=installation.environment, capture_output=True, text=True, check=False)

    made = json.loads(said("--hours", "2", "--json").stdout)
    assert 7000 < made["until"] - time.time() < 7300
    assert status(made["address"].removeprefix(f"http://127.0.0.1:{PORT}")) == 200
    assert said("--hours", "99999999").returncode == ExitCode.USAGE


def test_what_is_live_is_live_by_a_link(scene: Scene) -> None:
    """The script finds how its addresses begin, and the first look changes by them."""
    assert json.loads(ask(f"{link()}/api/fleet")[2])["workers"]
    assert "dataset.look" in ask(f"{link()}/page.js")[2]
