"""Files with what a worker needs to log in: read by root, handed to that worker alone, and never told."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from fleet.errors import ConfigurationError
from fleet.model import BrowserSettings, Worker
from fleet.settings.mistakes import mistakes
from worker import logins

SITE = "https://www.example.org"
SECRET = "watcher:h0rse-staple"
WORKER = Worker(uid=1101)


def settings(path: Path) -> BrowserSettings:
    """A site whose password is in PATH."""
    return BrowserSettings.model_validate({"auth": {f"{SITE}:443/": str(path)}})


def secret(folder: Path, content: bytes = SECRET.encode(), mode: int = 0o600) -> Path:
    """A file of this user's."""
    path = folder / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_a_password_reaches_its_worker(tmp_path: Path) -> None:
    """By a file of its /etc; the settings, which every worker reads, name the file alone; no settings make no file."""
    browser = settings(secret(tmp_path, f"{SECRET}\r\n".encode()))
    made = logins.etc_files(browser, WORKER)
    handed = tmp_path / "etc"
    handed.write_text(made["fleet-logins.json"])
    assert logins.mine(handed).passwords == {SITE: SECRET}
    assert "staple" not in f"{browser!r}{browser.model_dump_json()}{logins.mine(handed)!r}"
    assert logins.etc_files(BrowserSettings(), WORKER) == {}
    assert logins.mine(tmp_path / "none") == logins.NONE


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        (SECRET.encode(), 0o640, "others than root can read"),
        (SECRET.encode(), 0o604, "chmod 600"),
        (b"h0rse-staple", 0o600, "user:password"),
        (b"a:h0rse-staple\nb:c", 0o600, "user:password"),
        (b"\xff:h0rse-staple", 0o600, "is no text"),
        (b"a:h0rse-staple" * 4096, 0o600, "larger than"),
    ],
)
def test_a_file_that_is_no_secret(tmp_path: Path, content: bytes, mode: int, why: str) -> None:
    """It is named with its key and what to do, and nothing of what it holds is said."""
    path = secret(tmp_path, content, mode)
    with pytest.raises(ConfigurationError) as caught:
        logins.etc_files(settings(path), WORKER)
    words = f"{caught.value.message} {caught.value.hint}"
    assert f'browser.auth."{SITE}"' in words and str(path) in words and why in words and "staple" not in words


def test_what_is_no_file(tmp_path: Path) -> None:
    """Nothing, a folder and a FIFO, of which nobody would ever write, are mistakes at once."""
    os.mkfifo(tmp_path / "fifo")
    for name in ("none", ".", "fifo"):
        with pytest.raises(ConfigurationError, match=r"browser\.auth"):
            logins.etc_files(settings(tmp_path / name), WORKER)


@pytest.mark.parametrize(
    ("site", "path", "why"),
    [
        ("http://www.example.org", "/a", "https"),
        ("https://www.example.org/path", "/a", "more than a site"),
        ("https://*.example.org", "/a", "no host"),
        ("https://me:h0rse-staple@www.example.org", "/a", "password"),
        ("www.example.org", "/a", "no http"),
        (SITE, "a", "path"),
    ],
)
def test_what_is_no_site(site: str, path: str, why: str) -> None:
    """A whole origin over https, and the whole path of a file."""
    with pytest.raises(ValidationError) as caught:
        BrowserSettings.model_validate({"auth": {site: path}})
    words = mistakes(caught.value, "browser.")
    assert "browser.auth" in words and why in words and "staple" not in words


def test_a_state_reaches_its_worker(tmp_path: Path) -> None:
    """Each worker gets its own file's, as Playwright writes it; a part that it does not know is left out."""
    for uid, value in ((1101, "h0rse-1"), (1102, "h0rse-2")):
        cookie = {"name": "sid", "value": value, "domain": "www.example.org", "sameSite": "Lax", "extra": 1}
        path = tmp_path / f"w{uid}.json"
        path.write_text(json.dumps({"cookies": [cookie], "origins": [{"origin": SITE, "localStorage": []}]}))
        path.chmod(0o600)
    browser = BrowserSettings.model_validate({"state": {"file": f"{tmp_path}/{{worker}}.json"}})
    for uid, other in ((1101, 2), (1102, 1)):
        text = logins.etc_files(browser, Worker(uid=uid))["fleet-logins.json"]
        assert f"h0rse-{3 - other}" in text and f"h0rse-{other}" not in text
        assert "h0rse" not in repr(logins.Logins.model_validate_json(text))


@pytest.mark.parametrize("text", ["h0rse", '{"cookies": [{"value": "h0rse"}]}', '{"cookies": "h0rse"}', '["h0rse"]'])
def test_a_state_that_is_none(tmp_path: Path, text: str) -> None:
    """It is named with its place in the file, and nothing of what it holds is said."""
    path = secret(tmp_path, text.encode())
    with pytest.raises(ConfigurationError) as caught:
        logins.etc_files(BrowserSettings.model_validate({"state": {"file": str(path)}}), WORKER)
    assert "browser.state.file" in caught.value.message and "h0rse" not in f"{caught.value.message}{caught.value.hint}"


@pytest.mark.parametrize(
    ("state", "why"),
    [({"keep": True}, "needs sites"), ({"sites": [SITE]}, "keep = true"), ({"file": "a.json"}, "absolute path")],
)
def test_what_is_kept_is_said_in_full(state: dict[str, object], why: str) -> None:
    """Half of it is a mistake of its key's."""
    with pytest.raises(ValidationError, match=why):
        BrowserSettings.model_validate({"state": state})
