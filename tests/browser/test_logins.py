"""Sites that know their visitor: a password by HTTP, and what a browser keeps of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.model import BrowserSettings
from lab.net import Lab
from lab.topology import WEB_ADDRESS
from tests.browser.cases import PORT, SITE
from tests.browser.conftest import LIMITS
from tests.inside import Ear, program, speaking
from tests.system.launching import Puppet, Stage
from worker import logins, prepare

OTHER = f"https://shop.example:{PORT + 1}"
PASSWORD = "watcher:열쇠: 42"
FIELDS = {"fields": {"price": {"select": ".price", "kind": "price"}}}


@pytest.fixture(scope="module")
def other_site(lab: Lab) -> Iterator[Ear]:
    """The same pages on another port: another origin."""
    keys = lab.places.site
    arguments = (str(keys / "cert.pem"), str(keys / "key.pem"), str(WEB_ADDRESS), str(PORT + 1))
    with speaking(lab, "web", program(lab, "odd_site", *arguments), "ready") as made:
        yield made


def puppet(stage: Stage, driver: str, folder: Path, **settings: Any) -> Puppet:
    """A browser whose worker was handed what SETTINGS name."""
    wanted = BrowserSettings.model_validate({"driver": driver, **LIMITS, **settings})
    etc = {**prepare.etc_files(stage.fleet), **logins.etc_files(wanted, stage.worker)}
    return Puppet(stage, driver, settings={**LIMITS, **settings}, etc=etc)


def file(folder: Path, text: str) -> str:
    """A file of root's alone."""
    path = folder / "secret"
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


@pytest.mark.parametrize("driver", ["undetected", "selenium"])
def test_a_password_is_told_to_its_own_site_alone(
    stage: Stage, site: Ear, other_site: Ear, tmp_path: Path, driver: str
) -> None:
    """Not to a picture of it on another site's page, and not to another port; the page behind it is read."""
    browser = puppet(stage, driver, tmp_path, auth={SITE: file(tmp_path, f"{PASSWORD}\n")})
    site.rest()
    assert browser("open", f"{OTHER}/embeds?{SITE}/private") is None
    assert "/private" in site.rest()
    found = browser("perform", "watch", {"pages": [f"{SITE}/private"], **FIELDS})
    assert (found["outcome"], found["answer"]["fields"]["price"]["amount"]) == ("good", 12900)
    wanted = base64.b64encode(PASSWORD.encode()).decode()
    assert f"/private Basic {wanted}" in site.rest()  # the control: the site's own words show what it was told
    other_site.rest()
    assert browser("open", f"{OTHER}/private")["error"] == "Answered"
    assert other_site.rest() == ["/private"]
    browser.end()


def test_a_wrong_password_is_a_refusal(stage: Stage, site: Ear, tmp_path: Path) -> None:
    """The site is told once; its refusal is the answer, at once and without a dialog, and it is not told again."""
    browser = puppet(stage, "selenium", tmp_path, auth={SITE: file(tmp_path, "watcher:wrong")})
    site.rest()
    for _ in range(2):
        found = browser("perform", "watch", {"pages": [f"{SITE}/private"], **FIELDS})
        assert (found["outcome"], found["status"]) == ("refused", 401) and "log-in" in found["reason"]
    asked = [line for line in site.rest() if line.startswith("/private")]
    assert sum("Basic" in line for line in asked) == 1 and len(asked) <= 4, asked
    browser.end()


KNOWN = """
const seen = await fetch("/known").then(answer => answer.text());
return [seen, localStorage.token ?? null, (await fetch("/cached").then(answer => answer.text()))];
"""
STORED = {
    "cookies": [{"name": "sid", "value": "s3cret", "domain": "shop.example", "httpOnly": True, "secure": True}],
    "origins": [{"origin": SITE, "localStorage": [{"name": "token", "value": "t0ken"}]}],
}


def known(browser: Puppet) -> list[Any]:
    """What the site is told by the browser: its cookie, what it stored, and which answer is in its cache."""
    found = browser("_script", f"return (async () => {{{KNOWN}}})()")
    assert isinstance(found, list), found
    return found


@pytest.mark.parametrize("driver", ["undetected", "selenium"])
def test_the_next_loop_knows_nothing(stage: Stage, site: Ear, driver: str) -> None:
    """No cookie, no storage, no cache, no HSTS; the browser that goes on has all of them (control)."""
    browser = Puppet(stage, driver, settings=LIMITS)
    plain = f"{SITE}/ok".replace("https:", "http:")
    browser("open", f"{SITE}/logs-in")
    cookie, token, cached = known(browser)
    assert (cookie, token) == ("sid=s3cret", "t0ken") and known(browser)[2] == cached
    assert browser("open", plain) is None
    browser("restart")
    assert browser("open", plain)["error"] == "PageFailed"
    browser("open", f"{SITE}/ok")
    assert known(browser)[:2] == ["", None] and known(browser)[2] != cached
    browser.end()


def test_a_login_is_kept_where_it_is_wanted(stage: Stage, site: Ear, tmp_path: Path) -> None:
    """Cookie and storage of the named site are there after a restart, no cache and no other site's; its site is not
    asked for that, and no other user reads the file. Another file of the operator's begins again."""
    keep = {"keep": True, "sites": [SITE]}
    browser = puppet(stage, "selenium", tmp_path, state=keep)
    browser("open", f"{SITE}/logs-in")
    cached = known(browser)[2]
    site.rest()
    counted = browser("counts")
    browser("keep")
    assert site.rest() == [] and browser("counts") == counted
    kept = stage.paths.home(stage.worker) / "logins.json"
    assert (kept.stat().st_uid, kept.stat().st_mode & 0o777) == (stage.worker.uid, 0o600)
    browser("restart")
    browser("begin")
    assert site.rest() == [] and browser("counts")["requests"] == 0
    browser("open", f"{SITE}/ok")
    assert known(browser)[:2] == ["sid=s3cret", "t0ken"] and known(browser)[2] != cached
    browser.end()
    given = json.dumps({"cookies": [{"name": "sid", "value": "other", "domain": "shop.example"}]})
    browser = puppet(stage, "selenium", tmp_path, state={**keep, "file": file(tmp_path, given)})
    browser("begin")
    browser("open", f"{SITE}/ok")
    assert known(browser)[:2] == ["sid=other", None]
    browser.end()


def test_a_loop_begins_logged_in(stage: Stage, site: Ear, tmp_path: Path) -> None:
    """What the operator's file holds is there in each loop; nothing is kept of it unless that is wanted."""
    browser = puppet(stage, "undetected", tmp_path, state={"file": file(tmp_path, json.dumps(STORED))})
    for _ in range(2):
        browser("begin")
        browser("open", f"{SITE}/ok")
        assert known(browser)[:2] == ["sid=s3cret", "t0ken"]
        browser("_script", "localStorage.token = 'changed'")
        browser("keep")
        browser("restart")
    assert not (stage.paths.home(stage.worker) / "logins.json").exists()
    browser.end()
