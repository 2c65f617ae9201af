"""A server that results go to: `python -m tests.programs.owner PORT MOOD...`, up when it says `ready`.

Its MOODS say what it makes of its next requests, one each; then it takes what comes. What it takes it says, a JSON
object a line.
"""

from __future__ import annotations

import email
import hashlib
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECONDS = 0.4
"""A client that is less patient than thrice this goes away."""


class Server(ThreadingHTTPServer):
    """The server, which serves as soon as it is made."""

    daemon_threads = True

    def __init__(self, *moods: str, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.moods = list(moods)
        self.taken: list[tuple[str, str, bytes]] = []
        """Of what it took: key, path, body."""
        self.serving = threading.Thread(target=self.serve_forever, daemon=True)
        self.serving.start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        """Who hangs up is no error here."""


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server

    def do_POST(self) -> None:
        """As the mood is."""
        mood = self.server.moods.pop(0) if self.server.moods else "good"
        body = self.rfile.read(int(self.headers["content-length"]))
        if mood in ("good", "lost", "again", "endless"):
            self.server.taken.append((self.headers["idempotency-key"], self.path, body))
            if __name__ == "__main__":
                print(json.dumps(form(body)), flush=True)
        self.answer(mood)
        self.close_connection = True

    do_PUT = do_POST  # noqa: N815 - as above

    def answer(self, mood: str) -> None:
        """What is said, and how."""
        if mood == "silent":
            time.sleep(SECONDS * 3)
        elif mood == "endless":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            with_time = time.monotonic() + 5
            while time.monotonic() < with_time:
                self.wfile.write(bytes(1000))
        elif mood == "dripping":
            for letter in b"HTTP/1.1 200 OK\r\nx: " + b"x" * 50:
                self.wfile.write(bytes([letter]))
                time.sleep(SECONDS / 10)
        elif mood in ("lost", "reset"):
            pass  # no answer
        elif mood == "echo":
            self.send_response(500)
            self.end_headers()
            self.wfile.write(f"{self.headers} {self.headers['authorization']}".encode())
        elif mood.isdigit():
            self.send_response(int(mood))
            self.send_header("retry-after", "7")
            self.send_header("location", f"{self.server.url}/elsewhere")
            self.end_headers()
        else:
            self.send_response(409 if mood == "again" else 201)
            self.end_headers()
            self.wfile.write(b'{"address": "https://pictures.example/1"}')

    def log_message(self, *_: object) -> None:
        """No word on the terminal."""


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
    made = Server(*sys.argv[2:], port=int(sys.argv[1]))
    print("ready", flush=True)
    made.serving.join()
