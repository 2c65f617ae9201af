"""A stand-in for a key service, with the faults of real ones: `launch.py lab.keyservice FOLDER ADDRESS PORT`.

FOLDER/keys.json    its keys: each an object with the fields of an answer
FOLDER/fault        the kind of the next answers, read at every request: slow, silent, garbage, types, mismatch,
                    stranger, endless, redirect, twice, refuses, broken; or nothing
FOLDER/journal      what was lent, answered and given back, a JSON object per line, so a restart changes nothing
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

SLOW_SECONDS = 1.5
SILENT_SECONDS = 60.0
_GIVES = ("", "slow", "mismatch", "stranger")
"""With these faults a key is still lent."""


class KeyService(ThreadingHTTPServer):
    """The service of one FOLDER; it serves from the start."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, folder: Path, address: str, port: int) -> None:
        self.folder = folder
        self.keys: list[dict[str, Any]] = json.loads((folder / "keys.json").read_text())
        self.lent: dict[str, None] = {}
        """Public keys that are lent, the latest last."""
        self.used: dict[str, int] = {}
        """Keys that were lent before: one that has come back is lent after the others."""
        self.lock, self.ended = threading.Lock(), threading.Event()
        for line in self._lines():
            self._replay(json.loads(line))
        super().__init__((address, port), _Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Close the port."""
        self.ended.set()
        self.shutdown()
        self.server_close()

    @property
    def fault(self) -> str:
        """The fault that it has now."""
        path = self.folder / "fault"
        return path.read_text().strip() if path.exists() else ""

    def note(self, event: str, public: str) -> None:
        """Record an event of a key."""
        with (self.folder / "journal").open("a") as journal:
            journal.write(json.dumps({"event": event, "public_key": public}) + "\n")
        self._replay({"event": event, "public_key": public})

    def _lines(self) -> Iterator[str]:
        path = self.folder / "journal"
        yield from path.read_text().splitlines() if path.exists() else ()

    def _replay(self, line: dict[str, str]) -> None:
        if line["event"] == "lent":
            self.lent[line["public_key"]] = None
        elif line["event"] == "back":
            self.lent.pop(line["public_key"], None)
            self.used[line["public_key"]] = max(self.used.values(), default=0) + 1

    def lend(self, server: str, fault: str) -> dict[str, Any]:
        """An answer with a key, of SERVER if one is named."""
        with self.lock:
            if fault == "twice" and self.lent:
                youngest = next(reversed(self.lent))
                return _answer(next(one for one in self.keys if one["public_key"] == youngest))
            servers = {one["server_address"] for one in self.keys}
            if server and server not in servers:
                return {"success": False, "error": f"there is no server {server}"}
            free = [one for one in self.keys if one["public_key"] not in self.lent]
            free.sort(key=lambda one: self.used.get(one["public_key"], -1))
            fitting = [one for one in free if not server or (one["server_address"] == server) != (fault == "stranger")]
            if not fitting:
                return {"success": False, "error": "no key is free"}
            self.note("lent", fitting[0]["public_key"])
        made = _answer(fitting[0])
        if fault == "mismatch":
            made["private_key"] = next(one for one in self.keys if one is not fitting[0])["private_key"]
        return made

    def take_back(self, public: str) -> dict[str, Any]:
        """A key comes back."""
        with self.lock:
            if public not in self.lent:
                return {"success": False, "error": "that key is not out"}
            self.note("back", public)
        return {"success": True}


def _answer(key: dict[str, Any]) -> dict[str, Any]:
    """KEY in its parts, and as a client file."""
    config = (
        f"[Interface]\nPrivateKey = {key['private_key']}\nAddress = {key['client_address']}\n[Peer]\n"
        f"PublicKey = {key['server_public_key']}\nAllowedIPs = 0.0.0.0/0\n"
        f"Endpoint = {key['server_address']}:{key['server_port']}\n"
    )
    return {"success": True, **key, "config": config}


class _Handler(BaseHTTPRequestHandler):
    server: KeyService

    def do_GET(self) -> None:
        """Allocate or status."""
        parts, fault = urlsplit(self.path), self.server.fault
        if parts.path == "/status" and fault in _GIVES:
            self._say({"success": True, "lent": len(self.server.lent)})
        elif not self._misbehaves(fault):
            said = self.server.lend(parse_qs(parts.query).get("ip", [""])[0], fault)
            self._say(said)
            if "public_key" in said:
                self.server.note("answered", said["public_key"])

    def do_POST(self) -> None:
        """Release."""
        said, fault = json.loads(self.rfile.read(int(self.headers["Content-Length"]))), self.server.fault
        if not self._misbehaves(fault):
            self._say(self.server.take_back(said["public_key"]))

    def _misbehaves(self, fault: str) -> bool:
        """Answer as FAULT says, if it allows no good answer."""
        if fault in ("slow", "silent"):
            self.server.ended.wait(SLOW_SECONDS if fault == "slow" else SILENT_SECONDS)
        if fault in (*_GIVES, "twice"):
            return False
        if fault == "endless":
            self._endless()
        elif fault != "silent":
            bodies: dict[str, Any] = {"refuses": {"success": False, "error": "not today"}, "types": [1, None]}
            codes = {"redirect": 302, "broken": 500}
            self._say(bodies.get(fault, "<html>garbage"), codes.get(fault, 200))
        return True

    def _say(self, said: object, code: int = 200) -> None:
        body = (said if isinstance(said, str) else json.dumps(said)).encode()
        self.send_response(code)
        if code == 302:
            self.send_header("Location", "/allocate?ip=elsewhere")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        while not self.server.ended.is_set():
            self.wfile.write(b'{"success": [' + b"1," * 8192)

    def handle(self) -> None:
        """Ignore a client that has disconnected."""
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Log nothing: the journal has what counts."""


if __name__ == "__main__":
    service = KeyService(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    service.ended.wait()
