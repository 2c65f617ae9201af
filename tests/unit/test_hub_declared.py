"""Jobs are checked against the options that their tasks declare, when they are accepted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import UsageError
from fleet.model import TaskSettings
from hub import entering
from hub.declared import UNKNOWN, Declared

CHECKOUT = Path(__file__).resolve().parents[2]
SEARCH = {"home": "https://shop.example/", "search_box": "#q", "query": "tea", "result_items": "li"}
URLS = ["https://shop.example/"]
OWN = """
import os, socket
from typing import Annotated, Literal
from pydantic import BaseModel, BeforeValidator, Field, create_model
from worker.tasks.contract import Context, Found, takes
print("a module may print")
class Deep(BaseModel):
    inner: "list[Deep]" = []
here = {f"uid_{os.getuid()}": (int, 0), "links": (Literal[tuple(name for _, name in socket.if_nameindex())], "lo")}
Options = create_model("Options", __config__={"extra": "forbid"}, page=(str, ...), deep=(Deep, Deep()),
    most=(Annotated[int, Field(le=9)], 1), any=(Annotated[int, BeforeValidator(len)], 1), **here)
@takes(Options)
def prices(context: Context[Options]) -> Found: ...
def loose(context) -> Found: ...
"""


@pytest.fixture(scope="module")
def schemas() -> Iterator[Mapping[str, Any]]:
    """What the built-in tasks and two of an operator's own declare; other modules there end the program, or hang."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, "etc/fleet/tasks")
        folder.mkdir(parents=True)
        Path(root).chmod(0o755)
        for name, text in (("own", OWN), ("ends", "raise SystemExit"), ("broken", "import nothing_of_that_name")):
            (folder / f"{name}.py").write_text(text)
        command = [sys.executable, "-I", str(CHECKOUT / "launch.py"), "worker", "declare", "--task", "json:dumps"]
        done = subprocess.run(command, env={"FLEET_ROOT": root}, capture_output=True, text=True, check=True)
        yield json.loads(done.stdout)


def refused(schemas: Mapping[str, Any], task: str, **options: Any) -> str:
    """Why the job is refused; "" if it is accepted."""
    try:
        Declared(schemas).check(task, options)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("task", "options", "words"),
    [
        ("search", {**SEARCH, "queery": "x"}, "there is no 'queery'; there are wait_seconds, seen_address, home"),
        ("search", {**SEARCH, "query": 5}, "arguments.query: input should be a valid string (it is 5)"),
        ("search", {**SEARCH, "wait_seconds": "soon"}, "arguments.wait_seconds: input should be a valid number"),
        ("search", {**SEARCH, "wait_seconds": 0}, "arguments.wait_seconds: input should be greater than 0"),
        ("search", {"query": "tea"}, "arguments.home: field required"),
        ("visit", {"urls": "https://shop.example/"}, "arguments.urls: input should be a valid list"),
        ("visit", {"urls": ["ftp://me:secret@shop.example"]}, "is no http or https address"),
        ("visit", {"urls": URLS, "screenshot": ["full"]}, "arguments.screenshot: input should be a plain or table"),
        (
            "visit",
            {"urls": URLS, "screenshot": {"off": "full"}},
            "screenshot: there is no 'off'; there are of",
        ),
        ("watch", {"pages": URLS, "steps": [{"clik": "a"}]}, "arguments.steps.0: there is no 'clik'; there are click"),
        (
            "watch",
            {"pages": URLS, "fields": {"price": {"kind": "money"}}},
            "'text', 'number', 'price'",
        ),
        ("watch", {"pages": URLS, "items": {"select": "li", "most": 0}}, "arguments.items.most: "),
        ("serach", {}, "there is no 'serach'; there are own:prices, watch, search, visit"),
        ("own:price", {}, "there is no 'own:price'"),
        ("own:prices", {"page": "x", "most": 10}, "arguments.most: input should be less than or equal to 9"),
        ("own:prices", {"page": "x", "deep": {"inner": 5}}, "arguments.deep.inner: input should be a valid list"),
    ],
)
def test_what_no_task_takes(schemas: Mapping[str, Any], task: str, options: Any, words: str) -> None:
    """The error names the option and what is allowed; it repeats no password."""
    said = refused(schemas, task, **options)
    assert words in said and "secret" not in said, said


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("search", {**SEARCH, "wait_seconds": "5", "empty": "nothing", "screenshot": "full"}),
        ("search", {**SEARCH, "empty": ["nothing", {"select": "p", "text": "none"}], "limited": {"text": "wait"}}),
        ("watch", {"pages": URLS, "fields": {"price": {"kind": "price"}, "name": "h1"}, "steps": [{"click": "a"}]}),
        ("watch", {"pages": URLS, "items": {"select": "li", "fields": {"name": "a"}}, "find": {"name": "tea"}}),
        ("own:prices", {"page": "x", "most": "3", "any": [1, 2], "deep": {"inner": [{"inner": []}]}}),
        ("own:loose", {"whatever": 1}),
        ("json:dumps", {"whatever": 1}),
        ("ends:it", {"whatever": 1}),
        ("elsewhere:it", {}),
    ],
)
def test_what_a_worker_would_take_is_taken(schemas: Mapping[str, Any], task: str, options: Any) -> None:
    """Numbers as text, a text for a table, what a function makes; a task that declares nothing."""
    assert refused(schemas, task, **options) == ""


def test_own_tasks_are_imported_by_nobody_without_a_network(schemas: Mapping[str, Any]) -> None:
    """For root they are imported under the UID of nobody, with only a loopback."""
    known, root = schemas["own:prices"]["properties"], os.geteuid() == 0
    assert f"uid_{65534 if root else os.geteuid()}" in known, known
    assert not root or known["links"]["const"] == "lo", known


@pytest.mark.parametrize(
    "text", ["query,wait_seconds\na,5\n,soon\n", '{"arguments": {}}\n\n{"arguments": {"wait_seconds": "soon"}}']
)
def test_a_mistake_names_its_line(schemas: Mapping[str, Any], text: str) -> None:
    """Of CSV and of JSON Lines; without declarations a job is accepted as it stands."""
    task, nothing = TaskSettings(run="search", options=SEARCH), dict[str, Any](arguments={})
    with pytest.raises(UsageError, match=r"^x, line 3: arguments\.wait_seconds: .* \(it is 'soon'\)$"):
        entering.jobs(entering.lines(text), nothing, task, "x", declared=Declared(schemas))
    assert len(entering.jobs(entering.lines(text), nothing, task, "x", declared=UNKNOWN)) == 2
