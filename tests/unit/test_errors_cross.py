"""An error keeps its class between processes, over a socket and over a pipe, whatever each has imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import JsonValue

from fleet import programs
from fleet.errors import TREE, ExitCode, FleetError, TryLater
from tests.unit.test_rpc import serving

ROOT = Path(__file__).resolve().parents[2]
ASKS = """
import json, sys
from pathlib import Path
from fleet.sockets.client import Client
from fleet.errors import FleetError
from fleet.sockets.wire import Done
from tests.unit.toy import Fail
with Client(Path(sys.argv[1]), timeout_seconds=20) as client:
    for name in sys.argv[2:]:
        try:
            client.ask(Fail(name=name), Done)
        except FleetError as error:
            print(json.dumps([name, type(error).__name__, error.parameters()]))
assert not {"netctl", "worker"} & {name.split(".")[0] for name in sys.modules}
"""
"""A program that knows the vocabulary alone."""
RAISES = """
import sys
from fleet import errors
from fleet.terminal import console
def run(arguments):
    if arguments.name == "ValueError":
        raise ValueError("a fault")
    try:
        raise OSError("the cause")
    except OSError as cause:
        parameters = {"message": "no \\u2028 no", "hint": "do that", "data": {"seconds": 3}}
        raise errors.from_wire(arguments.name, parameters) from cause
parser = console.parser("raises", "Raises an error.", "raises")
parser.add_argument("name")
parser.set_defaults(run=run)
console.main(parser)
"""


def raises(name: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a program that ends with the error called NAME."""
    command = [sys.executable, "-c", RAISES, name]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_over_a_socket(tmp_path: Path) -> None:
    """Every error of the tree arrives at another process as its class, with message, hint and data."""
    path = tmp_path / "s.sock"
    with serving(path):
        done = subprocess.run(
            [sys.executable, "-c", ASKS, str(path), *TREE], cwd=ROOT, capture_output=True, text=True, check=True
        )
    parameters: dict[str, JsonValue] = {"hint": "do that", "data": {"seconds": 3}}
    expected = [[name, name, {"message": f"no {name}", **parameters}] for name in TREE]
    assert [json.loads(line) for line in done.stdout.splitlines()] == expected


@pytest.mark.parametrize("name", ["KernelRefused", "PageFailed", "RunFailed", "TryLater", "UsageError"])
def test_over_a_pipe(name: str) -> None:
    """A program's error is raised by the one that started it: its class, hint, data, and the words of its cause."""
    environment = {**os.environ, **programs.ERRORS_AS_DATA, "PYTHONPATH": str(ROOT)}
    with pytest.raises(FleetError) as caught:
        programs.call([sys.executable, "-c", RAISES, name], environment, deadline_seconds=20)
    assert type(caught.value) is TREE[name]
    assert (caught.value.message, caught.value.hint) == ("no \u2028 no\nthe cause", "do that")
    assert caught.value.data == {"seconds": 3}
    assert raises(name, environment).returncode == TREE[name].exit_code


def test_who_is_too_slow_may_be_tried_again() -> None:
    """A program that exceeds its deadline gives TryLater, which names it and says what to check."""
    with pytest.raises(TryLater, match=r"^sleep 60 did not end within 0\.01 s$") as caught:
        programs.call(["sleep", "60"], {}, deadline_seconds=0.01)
    assert caught.value.hint and caught.value.exit_code == ExitCode.TRY_LATER


def test_a_fault_crosses_as_an_error_without_a_name() -> None:
    """An exception that is no error of the fleet arrives as a FleetError that names it."""
    done = raises("ValueError", {**os.environ, **programs.ERRORS_AS_DATA})
    error = programs.told_error(done.stderr, "nothing")
    assert (type(error), error.message, done.returncode) == (FleetError, "ValueError: a fault", ExitCode.INTERNAL)


def test_people_read_what_they_always_did() -> None:
    """Without FLEET_ERRORS only the message is printed; with it the message comes first, then one line of data."""
    plain = raises("TunnelLost", {**os.environ})
    data = raises("TunnelLost", {**os.environ, **programs.ERRORS_AS_DATA})
    assert plain.stderr == "raises: no \\u2028 no\n  the cause\n  what to do: do that\n"
    assert data.stderr.startswith(plain.stderr) and data.stderr.count("\n") == plain.stderr.count("\n") + 1


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("", "ended with 9"),
        ("setpriv: not permitted\n", "setpriv: not permitted"),
        ('{"event": "begun"}\nKilled\n', "Killed"),
        ('{"event": "failed", "error": "KernelRefused"}\n', "ended with 9"),
        ('{"error": "KernelRefused", "parameters": {}}\nSegmentation fault\n', "Segmentation fault"),
    ],
)
def test_who_says_no_error_is_told_by_its_words(said: str, words: str) -> None:
    """Its last plain output counts, then its exit code; log lines do not count, nor does an error that was not last."""
    error = programs.told_error(said, "ended with 9")
    assert (type(error), error.message) == (FleetError, words)
