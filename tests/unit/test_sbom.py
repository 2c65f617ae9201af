"""bin/sbom: the bill of materials is the lock file's, and nobody takes an unasked question for a good answer."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


def sbom(*words: str) -> subprocess.CompletedProcess[str]:
    """What the program says."""
    command = [sys.executable, "-I", str(CHECKOUT / "bin/sbom"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def service(answer: Any) -> Iterator[str]:
    """A server of this machine that answers every question with ANSWER (a function of the questions, or bytes)."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer if isinstance(answer, bytes) else json.dumps(answer(asked)).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_the_bill_is_the_lock_files() -> None:
    """Every pin with its version and all of its hashes, nothing else, the same each time."""
    lock = (CHECKOUT / "requirements.lock").read_text()
    found = json.loads(sbom().stdout)
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.5")
    pins = re.findall(r"^([a-z0-9._-]+)==([^ ]+)", lock, re.MULTILINE | re.IGNORECASE)
    assert [(one["name"], one["version"]) for one in found["components"]] == [(name.lower(), at) for name, at in pins]
    assert len({one["bom-ref"] for one in found["components"]}) == len(pins)
    assert sum(len(one["hashes"]) for one in found["components"]) == lock.count("--hash=sha256:")
    assert sbom().stdout == sbom().stdout


def test_a_line_it_does_not_understand_is_an_error(tmp_path: Path) -> None:
    """A package that stands in the lock file in another way is not silently left out."""
    lock = tmp_path / "some.lock"
    lock.write_text("odd @ https://www.example.org/odd.tar.gz\n")
    done = sbom("--lock", str(lock))
    assert done.returncode != 0 and "not understood" in done.stderr


def test_advisories_are_named() -> None:
    """A package with an advisory is named with its number, exit 1; without any, exit 0."""

    def answer(asked: list[Any]) -> Any:
        hit = {"vulns": [{"id": "GHSA-x\x1b[2J"}]}
        return {"results": [hit if "/rich@" in one["package"]["purl"] else {} for one in asked]}

    with service(answer) as url:
        done = sbom("--advisories", "--service", url)
    assert done.returncode == 1 and re.fullmatch(r"pkg:pypi/rich@[0-9.]+: GHSA-x\\x1b\[2J\n", done.stdout)
    with service(lambda asked: {"results": [{} for _ in asked]}) as url:
        assert sbom("--advisories", "--service", url).returncode == 0


@pytest.mark.parametrize("answer", [b"", b"<html>", b"{}", b'{"results": []}', b'{"results": 7}', b"[1]"])
def test_an_answer_that_is_none_is_said_loudly(answer: bytes) -> None:
    """No network, or something else at its end: NOT CHECKED, exit 75."""
    with service(answer) as url:
        done = sbom("--advisories", "--service", url)
    assert done.returncode == 75 and done.stderr.startswith("NOT CHECKED")
    gone = sbom("--advisories", "--service", url)
    assert gone.returncode == 75 and gone.stderr.startswith("NOT CHECKED")


def test_the_notice_names_all_that_is_used() -> None:
    """Each package of the lock file, with its licence; and none that is used no more."""
    lock, notice = (CHECKOUT / "requirements.lock").read_text(), (CHECKOUT / "NOTICE").read_text()
    pins = {name.lower() for name in re.findall(r"^([A-Za-z0-9._-]+)==", lock, re.MULTILINE)}
    assert pins == {*re.findall(r"^  ([a-z0-9-]+) +[A-Za-z]", notice, re.MULTILINE)}
