"""The host's own address, asked of a real web server on loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import pytest

from fleet.model import Fleet, Paths
from fleet.operate import configuration, prepare


@contextmanager
def answering(body: str, status: int = 200) -> Iterator[str]:
    """The address of a server that always answers BODY."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/ip"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def fleet(*urls: str, known: str = "") -> Fleet:
    listed = ", ".join(f'"{url}"' for url in urls)
    text = f'[dns]\nresolvers = ["198.18.0.53"]\n[egress]\ninsecure_http = true\nurls = [{listed}]\n{known}\n'
    return configuration.parse(text, "test")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(root=tmp_path)
    made.run.mkdir(parents=True)
    return made


@pytest.mark.parametrize("body", ["203.0.113.7\n", ' {"ip": "203.0.113.7", "country": "KR"}'])
def test_address_is_learned_and_written(paths: Paths, body: str) -> None:
    """Text and JSON are understood; the file has one address a line and every worker may read it."""
    with answering(body) as url:
        assert prepare.learn_host_addresses(fleet(url), paths) == (IPv4Address("203.0.113.7"),)
    assert paths.host_addresses.read_text() == "203.0.113.7\n"
    assert paths.host_addresses.stat().st_mode & 0o777 == 0o644


def test_next_service_is_asked_when_one_fails(paths: Paths) -> None:
    """A service that fails or talks nonsense does not keep the next from being asked."""
    with answering("busy", 503) as broken, answering("<html>") as odd, answering("203.0.113.8") as good:
        assert prepare.learn_host_addresses(fleet(broken, odd, good), paths) == (IPv4Address("203.0.113.8"),)


def test_nobody_answers_is_no_error(paths: Paths) -> None:
    """Without an answer the file is empty: the workers then have less to compare, and still start."""
    with answering("", 500) as url:
        assert prepare.learn_host_addresses(fleet(url), paths) == ()
    assert paths.host_addresses.read_text() == ""


def test_what_the_settings_say_is_not_asked(paths: Paths) -> None:
    """egress.host_addresses is taken as it is."""
    known = 'host_addresses = ["203.0.113.9", "2001:db8::9"]'
    found = prepare.learn_host_addresses(fleet("http://127.0.0.1:9/", known=known), paths)
    assert found == (ip_address("203.0.113.9"), ip_address("2001:db8::9"))
