"""A server of the fleet's owner: `python -m tests.programs.owner PORT WORK MOOD...`, up when it says `ready`.

Results go there (POST and PUT at any address), and it may have work: /work gives out an allocation, /pictures/ID takes
a picture, /results/ID takes an answer. There are WORK allocations with different keywords. Its MOODS say what it makes
of its next requests, one each; then it takes what comes. What it takes it says, a JSON object a line.
"""

from __future__ import annotations

import email
import hashlib
import json
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECONDS = 0.4
"""A client that is less patient than thrice this goes away."""
TAKING = {"good", "lost", "again", "endless", "garbage"}
"""In these moods it does what it is asked; whether it says so is another question."""


class Work:
    """What it has to be done, and what came of it."""

    def __init__(self) -> None:
        self.waiting: list[dict[str, Any]] = []
        """Allocations that nobody has."""
        self.given: dict[str, dict[str, Any]] = {}
        """By the word of the question, what was given out: asked again, it says the same."""
        self.answers: dict[str, list[dict[str, Any]]] = {}
        self.pictures: dict[str, dict[str, str]] = {}
        """By address, the form."""

    def give(self, word: str) -> dict[str, Any]:
        """An allocation."""
        if word not in self.given and self.waiting:
            self.given[word] = self.waiting.pop(0)
        return self.given.get(word, {"id": None})

    def picture(self, name: str, body: bytes) -> dict[str, Any]:
        """Take a picture of the allocation NAME."""
        address = f"https://pictures.example/{name}/{len(self.pictures)}"
        self.pictures[address] = form(body)
        return {"success": True, "data": {"url": address}}

    def answer(self, name: str, body: bytes) -> bool:
        """Take an answer; whether it is the first."""
        self.answers.setdefault(name, []).append(json.loads(body))
        say({"answer": self.answers[name][-1]})
        return len(self.answers[name]) == 1


class Server(ThreadingHTTPServer):
    """The server, which serves as soon as it is made."""

    daemon_threads = True

    def __init__(self, *moods: str, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.moods = list(moods)
        self.taken: list[tuple[str, str, bytes]] = []
        """Of what it took as a target: key, path, body."""
        self.headers: list[dict[str, str]] = []
        """Of these."""
        self.work = Work()
        self.lock = threading.Lock()
        self.serving = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.serving.start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        """Who hangs up is no error here."""

    def take(self, path: str, key: str, body: bytes) -> tuple[int, bytes]:
        """Do what is asked; what to say."""
        _, role, *name = path.split("/")
        if role == "work":
            return 200, json.dumps(self.work.give(key)).encode()
        if role == "pictures":
            return 200, json.dumps(self.work.picture(name[0], body)).encode()
        if role == "results":
            return (200, b'{"success": true}') if self.work.answer(name[0], body) else (409, b"{}")
        self.taken.append((key, path, body))
        if __name__ == "__main__":
            say(form(body))
        return 201, b'{"address": "https://pictures.example/1"}'


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server

    def do_POST(self) -> None:
        """As the mood is."""
        length = int(self.headers.get("content-length", 0))
        with self.server.lock:
            mood = self.server.moods.pop(0) if self.server.moods else "good"
            body = self.rfile.read(length if mood != "half" else length // 2)
            if mood in TAKING:
                self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
                status, said = self.server.take(self.path, self.headers["idempotency-key"], body)
        if mood in MOODS:
            MOODS[mood](self)
        elif mood == "good":
            self.say(status, said)
        else:
            self.say(int(mood), b"")
        self.close_connection = True

    do_GET = do_PUT = do_POST  # noqa: N815 - as above

    def say(self, status: int, said: bytes) -> None:
        """A whole answer."""
        self.send_response(status)
        self.send_header("retry-after", "7")
        self.send_header("etag", '"1"')  # S3 always has one
        self.send_header("location", f"{self.server.url}/elsewhere")
        self.end_headers()
        self.wfile.write(said)

    def endless(self) -> None:
        """An answer without an end."""
        self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        until = time.monotonic() + 5
        while time.monotonic() < until:
            self.wfile.write(bytes(1000))

    def dripping(self) -> None:
        """An answer letter by letter."""
        for letter in b"HTTP/1.1 200 OK\r\nx: " + b"x" * 50:
            self.wfile.write(bytes([letter]))
            time.sleep(SECONDS / 10)

    def log_message(self, *_: object) -> None:
        """No word on the terminal."""


MOODS: dict[str, Callable[[Handler], None]] = {
    "silent": lambda _: time.sleep(SECONDS * 3),
    "endless": Handler.endless,
    "dripping": Handler.dripping,
    "half": lambda _: None,
    "lost": lambda _: None,
    "reset": lambda _: None,
    "again": lambda one: one.say(409, b""),
    "false": lambda one: one.say(200, b'{"success": false, "message": "busy"}'),
    "garbage": lambda one: one.say(200, b"<html>please log in</html>"),
    "echo": lambda one: one.say(500, f"{one.headers} {one.headers['authorization']}".encode()),
}


def say(what: object) -> None:
    """As a program."""
    if __name__ == "__main__":
        print(json.dumps(what), flush=True)


def form(body: bytes) -> dict[str, str]:
    """The fields of a form, and the sums of its files."""
    bound = body.partition(b"\r\n")[0].removeprefix(b"--")
    message = email.message_from_bytes(b"content-type: multipart/form-data; boundary=" + bound + b"\r\n\r\n" + body)
    assert message.is_multipart(), body[:200]
    found = {}
    for part in message.get_payload():
        assert isinstance(part, email.message.Message)
        content, name = part.get_payload(decode=True), str(part.get_param("name", header="content-disposition"))
        assert isinstance(content, bytes)
        found[name] = hashlib.sha256(content).hexdigest() if part.get_filename() else content.decode()
    return found


if __name__ == "__main__":
    made = Server(*sys.argv[3:], port=int(sys.argv[1]))
    made.work.waiting = [{"id": number, "keyword": f"차 {number}"} for number in range(int(sys.argv[2]))]
    print("ready", flush=True)
    made.serving.join()
