"""`fleet db|job|result|page|site`, as an operator types them."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from pydantic import JsonValue

from fleet.errors import ExitCode
from fleet.operate import configuration
from fleet.snapshot import Snapshot
from fleet.terminal import console
from hub.__main__ import main
from hub.commands.results import _cell

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
    counts = json.loads(hub("result", "counts", "--by", "minute", "--since", "1h", "--json")[1])
    assert [(one["outcome"], one["runs"]) for one in counts] == [("cancelled", 1)]
    assert hub("site", "pause", "www.example.com")[0] == 0
    (site,) = json.loads(hub("site", "list", "--json")[1])
    assert (site["paused"], site["wake_at"]) == (True, None)


def test_no_cell_is_a_formula() -> None:
    """Nor a part of one, where cells are parted by semicolons; JSON in a cell says what it said."""
    formulas = ("=1+2", " +1", "-1", "@a", "＝1", "a;=1", "a; @b")
    assert [_cell(one) for one in formulas] == ["'=1+2", "' +1", "'-1", "'@a", "'＝1", "a;'=1", "a;' @b"]
    assert (_cell(-1), _cell("a;b=1"), _cell(None)) == ("-1", "a;b=1", "")
    said: list[JsonValue] = ["a;=1", {"b": ";-1"}]
    assert ";" not in _cell(said) and json.loads(_cell(said)) == said


def test_a_file_is_what_there_is_of_its_name(hub: Hub) -> None:
    """Its plan is shown before anything is done; applied twice nothing happens; what another added stays."""

    def applied(text: str, *words: str) -> tuple[object, list[tuple[str, str, str]]]:
        code, out, _ = hub("job", "apply", "-", "--json", *words, given=text)
        return code, [(one["what"], one["job"], one["why"]) for one in json.loads(out)["steps"]]

    def there() -> dict[str, tuple[object, object]]:
        found = json.loads(hub("job", "list", "--json")[1])
        return {one["key"]: (one["arguments"]["query"], one["interval_seconds"]) for one in found}

    hub("job", "add", "query=mine", "--key", "mine")
    both = 'name = "tea"\nusual.every = 60\n[jobs.green]\narguments.query = "green"\n'
    both += '[jobs.black]\ncron = ""\narguments.query = "black"\n'
    plan = [("add", "tea/green", ""), ("add", "tea/black", "")]
    assert applied(both) == (ExitCode.WOULD_CHANGE, plan)
    assert there() == {"mine": ("mine", None)}
    assert applied(both, "--yes") == (0, plan)
    assert applied(both, "--yes") == applied(both) == (0, [])
    one = 'name = "tea"\n[jobs.green]\nevery = 120\narguments.query = "greener"\n'
    assert applied(one, "--yes") == (
        0,
        [("change", "tea/green", "arguments, interval_seconds"), ("end", "tea/black", "")],
    )
    assert there() == {"mine": ("mine", None), "tea/green": ("greener", 120)}
    assert "tea/green" in hub("job", "list")[1]
    assert applied(both, "--yes")[1] == [
        ("add", "tea/black", ""),
        ("change", "tea/green", "arguments, interval_seconds"),
    ]
    moved = both.replace('query = "green"', 'home = "https://elsewhere.example/"\narguments.query = "green"')
    assert applied(moved, "--yes") == (0, [("change", "tea/green", "site, arguments")])
    assert applied(moved) == (0, []) and len(there()) == 3
    wrong = 'name = "Tea"\nx = 1\n[jobs.a]\nevery = "x"\n[jobs.b]\nkey = "k"\n'
    code, _, said = hub("job", "apply", "-", given=wrong)
    assert code == ExitCode.USAGE and all(
        word in said for word in ("name:", "x: there", "jobs.a: every", "jobs.b: there")
    )


def test_parquet_is_read_by_others(hub: Hub, tmp_path: Path) -> None:
    """Every run with its types, times with their zone; of none too."""
    argv = [sys.executable, "-m", "hub", "--settings", str(tmp_path / "fleet.json"), "result", "export"]
    for keys in ((), ("a", "b")):
        for key in keys:
            hub("job", "add", "query=tea", "--key", key)
            hub("job", "cancel", str(json.loads(hub("job", "list", "--json")[1])[-1]["id"]))
        done = subprocess.run([*argv, "--format", "parquet"], cwd=CHECKOUT, capture_output=True, check=True)
        (tmp_path / "runs.parquet").write_bytes(done.stdout)
        columns = "key, outcome, arguments->>'query', ended_at > now() - INTERVAL 1 HOUR"
        found = duckdb.sql(f"SELECT {columns} FROM '{tmp_path}/runs.parquet' ORDER BY job")
        assert found is not None and found.fetchall() == [(key, "cancelled", "tea", True) for key in keys]


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
        "result export --since 999999d",
        "result counts --since yesterday",
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


@pytest.mark.parametrize(("name", "heading"), [("README.md", "Jobs"), ("README.ko.md", "작업")])
def test_what_readme_says_of_jobs(hub: Hub, tmp_path: Path, name: str, heading: str) -> None:
    """Its settings load behind those of `fleet init`, its file of jobs is one, and its commands end well."""
    text = (CHECKOUT / name).read_text().partition(f"\n### {heading}\n")[2].partition("\n### ")[0]
    settings, first, more, listed = re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    init = '[workers]\ncount = 2\n[dns]\nresolvers = ["198.18.0.53"]\n[egress]\nurls = ["https://shop.example/ip"]\n'
    init += '[task]\nrun = "visit"\n\n[task.options]\nurls = ["https://shop.example/"]\n'
    fleet = configuration.parse(f"{init}{settings}", name)
    assert (fleet.hub.jobs, fleet.hub.web.port, [*fleet.hub.targets]) == ("first", 8470, ["folder"])
    (tmp_path / "watches.toml").write_text(listed)
    lines = [line.partition(";")[0] for line in (first + more).splitlines()]
    commands = [words[2:] for line in lines if (words := shlex.split(line, comments=True))[:2] == ["sudo", "fleet"]]
    typed = [words for words in commands if words[0] in ("job", "result", "site")]
    assert len(typed) >= 9
    assert ["job", "add", "--task", "visit", 'urls:=["https://www.example.com/"]'] in typed
    for line in typed:
        given = line[: line.index("<")] if "<" in line else line
        words = [str(tmp_path / word) if word == "watches.toml" else word for word in given]
        code, _, said = hub(*words, given="query\ntea\n")
        assert code == (ExitCode.WOULD_CHANGE if words[1] == "apply" else 0), (words, said)
    assert len(json.loads(hub("job", "list", "--json")[1])) == 7
