"""`fleet db|job|result|site`, as an operator types them."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet import console
from fleet.errors import ExitCode
from fleet.operate import configuration
from fleet.snapshot import Snapshot
from hub.__main__ import main

CHECKOUT = Path(__file__).resolve().parents[2]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
Hub = Callable[..., "tuple[object, str, str]"]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Hub:
    """Runs `hub`, as `fleet` starts it, in this process: exit code, standard output, standard error."""
    monkeypatch.setenv("FLEET_ROOT", str(tmp_path))
    fleet = configuration.load(CHECKOUT / "docs/fleet.example.toml")
    settings = tmp_path / "fleet.json"
    settings.write_text(Snapshot(release=CHECKOUT, fleet=fleet).model_dump_json())

    def run(*words: str, given: str = "") -> tuple[object, str, str]:
        (tmp_path / "given").write_text(given)
        words = tuple(str(tmp_path / "given") if word == "-" else word for word in words)
        monkeypatch.setattr(sys, "argv", ["hub", "--settings", str(settings), *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, *capsys.readouterr()

    assert run("db", "upgrade")[0] == 0
    return run


def test_jobs_by_words_and_files_and_what_came_of_them(hub: Hub) -> None:
    """Added, listed, cancelled, exported; a cell that a spreadsheet would take for a formula is text there."""
    _, out, said = hub("job", "add", "query=tea", "--json")
    assert json.loads(out) == [{"job": 1, "added": "new"}] and "hub.jobs" in said
    table = "key,query\n=1+2,a\n,b\n"
    assert json.loads(hub("job", "add", "--file", "-", "--json", given=table)[1])[1]["added"] == "new"
    assert hub("job", "add", "--file", "-", given="key,query\n=1+2,a\n")[1].startswith("1 in the queue already: ")
    code, _, said = hub("job", "add", "--file", "-", given="query,every\na,x\n")
    assert code == ExitCode.USAGE and "line 2: every" in said
    listed = json.loads(hub("job", "list", "--json")[1])
    assert sorted(one["arguments"]["query"] for one in listed) == ["a", "b", "tea"]
    formula = next(one["id"] for one in listed if one["key"])
    assert hub("job", "cancel", str(formula), "999")[0] == ExitCode.FAILED
    assert json.loads(hub("result", "list", "--json")[1])[0]["outcome"] == "cancelled"
    rows = list(csv.DictReader(io.StringIO(hub("result", "export", "--format", "csv")[1])))
    assert [(row["key"], row["outcome"]) for row in rows] == [("'=1+2", "cancelled")]
    assert json.loads(hub("result", "export", "--since", "1h")[1])["key"] == "=1+2"
    assert hub("site", "pause", "www.example.com")[0] == 0
    (site,) = json.loads(hub("site", "list", "--json")[1])
    assert (site["paused"], site["wake_at"]) == (True, None)


@pytest.mark.parametrize(
    "words",
    [
        "job show 77",
        "job list --from x",
        "job cancel 9999999999999999999999",
        "job add query=x --file -",
        "result show x",
        "result show 77",
        "result export --since yesterday",
        "site pause nobody",
        "site pace www.example.com --interval-seconds nan --most 1",
    ],
)
def test_a_mistake_is_one_error(hub: Hub, words: str) -> None:
    """With what to do, and exit code 64."""
    code, out, said = hub(*words.split())
    assert (code, out) == (ExitCode.USAGE, "") and said.startswith("fleet"), said


@pytest.mark.parametrize("words", ["job list", "result list", "site list", "job show 1"])
def test_a_table_is_whole_in_sixty_columns(hub: Hub, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is longer, and the long name of a site is there."""
    long = "a-rather-long-name-of-a-site.example.com"
    hub("job", "add", f"home=https://{long}/", "query=x")
    hub("job", "add", f"home=https://{long}/", "query=y")
    hub("job", "cancel", "2")
    monkeypatch.setattr(console, "PLAIN_WIDTH", 60)
    _, out, _ = hub(*words.split())
    letters = "".join(letter for letter in out if letter.isalnum() or letter in ".-")
    assert max(map(len, out.splitlines())) <= 60 or words == "job show 1", out
    assert long[:8] in letters and "…" not in out, out
