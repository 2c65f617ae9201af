"""The exit echo with hostile servers: what a request may cost, and what counts as an answer."""

from __future__ import annotations

import contextlib
import gzip
import socket
import ssl
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest

from fleet.errors import ConfigurationError, Unproved
from fleet.model import EgressSettings
from fleet.operate import configuration
from fleet.outside.seen_address import IPV4, IPV6, Asker
from lab.site import certificate

HEAD = b"HTTP/1.1 200 OK\r\n"
BOMB_BYTES = 64 << 20
BOMB = gzip.compress(bytes(BOMB_BYTES))
FEW_BYTES = 2 << 20
"""More than a question costs with all its libraries."""
Answer = Callable[[socket.socket], object]


def says(body: bytes, *headers: bytes) -> Answer:
    """Answers with BODY, then hangs up."""
    head = HEAD + b"".join(line + b"\r\n" for line in (*headers, b"Content-Length: %d" % len(body)))
    return lambda connection: connection.sendall(head + b"\r\n" + body)


def sends(*parts: bytes, pause: float = 0) -> Answer:
    """Sends PARTS, the last one again and again until nobody reads any more, with a PAUSE in between."""

    def send(connection: socket.socket) -> None:
        for part in parts[:-1]:
            connection.sendall(part)
        while not threading.Event().wait(pause):
            connection.sendall(parts[-1])

    return send


@contextlib.contextmanager
def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The address of a server that gives ANSWER on every connection: https with the context TLS, else http."""
    stopped = threading.Event()
    ways: list[socket.socket] = []

    def serve() -> None:
        while True:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                if stopped.is_set():
                    return
                with tls.wrap_socket(connection, server_side=True) if tls else connection as way:
                    ways.append(way)
                    way.recv(4096)
                    answer(way)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http{'s' if tls else ''}://127.0.0.1:{listening.getsockname()[1]}/ip?key=secret"
        finally:
            stopped.set()
            for way in ways:  # one whose client is still reading
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(way, socket.SHUT_RDWR)
            socket.create_connection(listening.getsockname()).close()
            thread.join()


def asker(*urls: str, seconds: float = 5, authorities: tuple[Path, ...] = ()) -> Asker:
    values = {"insecure_http": True, "urls": urls, "timeout_seconds": seconds}
    return Asker(EgressSettings.model_validate(values), authorities)


HARM: dict[str, tuple[Answer, str]] = {
    "gzip bomb": (says(BOMB, b"Content-Encoding: gzip"), "content encoding, which was not accepted"),
    "another encoding": (says(b"203.0.113.7", b"content-encoding: br"), "content encoding, which was not accepted"),
    "long answer": (says(b" " * 5000 + b"203.0.113.7"), "more than 4096 bytes"),
    "answer without end": (sends(HEAD + b"\r\n", b" " * 65536), "bytes"),
    "chunks without end": (sends(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n" * 999), "bytes"),
    "headers without end": (sends(HEAD, b"X-More: and more\r\n" * 999), "bytes"),
    "one header without end": (sends(HEAD, b"x" * 65536), "bytes"),
    "early answers without end": (sends(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 99), "bytes"),
    "dripping headers": (sends(HEAD, b"X", pause=0.02), "no answer in time"),
    "dripping body": (sends(HEAD + b"Content-Length: 4000\r\n\r\n", b" ", pause=0.02), "no answer in time"),
    "silence": (lambda connection: connection.recv(1), "no answer in time"),
    "hang-up": (lambda connection: connection.close(), "disconnected"),
    "redirect to itself": (lambda c: c.sendall(b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n"), "status 302"),
    "no content": (lambda c: c.sendall(b"HTTP/1.1 204 No Content\r\n\r\n"), "status 204"),
    "a page": (says(b"<html>203.0.113.7</html>"), "no address"),
    "two addresses": (says(b"203.0.113.7, 203.0.113.8"), "no address"),
    "words around it": (says(b"Your address is 203.0.113.7"), "no address"),
    "another family": (says(b"2001:db8::7"), "asked over IPv4"),
    "an address with a scope": (says(b"fe80::1%eth0"), "no global address"),
    "deep JSON": (says(b'{"ip":' + b"[" * 4000), "no address"),
    "no JSON": (says(b'{"ip": 7'), "delimiter"),
    "not ASCII": (says("203.0.113.7".encode("utf-16")), "codec"),
    "no HTTP": (lambda c: c.sendall(b"\x1b]0;owned\x07" * 99), "illegal"),
}


@pytest.mark.parametrize("name", HARM)
def test_harm_costs_its_time_and_its_bytes(name: str) -> None:
    """Whatever a server sends, it is rejected within the deadline, with little memory, and an error that fits a log."""
    answer, why = HARM[name]
    with serving(answer) as url:
        made = asker(url, seconds=0.5 if why == "no answer in time" else 5)
        tracemalloc.start()
        begun = time.monotonic()
        with pytest.raises(Unproved, match=why) as caught:
            made.seen()
        seconds, (_, most) = time.monotonic() - begun, tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert seconds < 4 and most < FEW_BYTES, (seconds, most)
    assert len(caught.value.message) < 300 and caught.value.message.isprintable()
    assert "secret" not in caught.value.message


def test_the_same_bomb_grows_in_a_plain_client() -> None:
    """The control: read as a plain client reads it, the answer needs a thousand times its size."""
    with serving(HARM["gzip bomb"][0]) as url:
        tracemalloc.start()
        assert len(httpx.get(url, trust_env=False).content) == BOMB_BYTES
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert most > BOMB_BYTES


def test_a_dripping_server_outlasts_a_plain_client() -> None:
    """The control: a time-out for each read never comes while a server drips."""
    with serving(sends(HEAD, b"X", pause=0.02)) as url, pytest.raises(TimeoutError, match="still reading"):

        def read() -> None:
            with contextlib.suppress(httpx.HTTPError):  # at the end its server hangs up
                httpx.get(url, timeout=0.3, trust_env=False)

        client = threading.Thread(target=read, daemon=True)
        client.start()
        client.join(1)
        if client.is_alive():
            raise TimeoutError("still reading")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A server's context, and the authority that signed it."""
    folder = tmp_path_factory.mktemp("tls")
    certificate.write(folder / "ca.pem", folder, [ip_address("127.0.0.1")])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context, folder / "ca.pem"


def test_an_answer_over_tls(tls: tuple[ssl.SSLContext, Path]) -> None:
    """A service with a certificate that is trusted is heard; the same one without that trust is not."""
    with serving(says(b'{"ip": "203.0.113.7"}'), tls[0]) as url:
        assert asker(url, authorities=(tls[1],)).seen() == ip_address("203.0.113.7")
        with pytest.raises(Unproved, match="certificate"):
            asker(url).seen()


def test_tls_that_never_ends(tls: tuple[ssl.SSLContext, Path]) -> None:
    """Neither a handshake nor an answer that drips over TLS outlasts the deadline."""
    begun = time.monotonic()
    record = b"\x16\x03\x03\x3f\xff"  # the begin of one of 16 KiB
    with serving(sends(record, b"\0", pause=0.02)) as url, pytest.raises(Unproved, match="in time"):
        asker(url.replace("http:", "https:"), seconds=0.5).seen()
    with serving(sends(HEAD, b"X", pause=0.02), tls[0]) as url, pytest.raises(Unproved, match="in time"):
        asker(url, seconds=0.5, authorities=(tls[1],)).seen()
    assert time.monotonic() - begun < 4


def test_two_services_must_agree() -> None:
    """Two services must see the same address; if one of two is down, the other one counts."""
    with (
        serving(says(b"203.0.113.7")) as one,
        serving(says(b"203.0.113.7")) as same,
        serving(says(b"203.0.113.8")) as odd,
    ):
        assert asker(one, same).seen() == ip_address("203.0.113.7")
        with pytest.raises(Unproved, match="disagree") as caught:
            asker(one, odd, same).seen()
        assert "203.0.113.8" in caught.value.message and "secret" not in caught.value.message
        assert asker("http://127.0.0.1:1/", one).seen() == ip_address("203.0.113.7")


def test_a_service_without_the_family_is_not_asked() -> None:
    """Asked over IPv6, an IPv4-only service counts as down."""
    with serving(says(b"203.0.113.7")) as url:
        assert asker(url).seen(IPV4) == ip_address("203.0.113.7")
        with pytest.raises(Unproved):
            asker(url).seen(IPV6)


def test_http_needs_a_word() -> None:
    """An http service is refused, naming its key, unless the settings allow it explicitly."""
    text = '[dns]\nresolvers = ["198.18.0.53"]\n[egress]\nurls = ["http://echo.example/"]\n'
    with pytest.raises(ConfigurationError, match=r"egress\.urls.*egress\.insecure_http = true"):
        configuration.parse(text, "test")
    assert configuration.parse(f"{text}insecure_http = true\n", "test").egress.insecure_http


def test_a_socket_of_the_callers() -> None:
    """The caller may provide the socket, such as one that is bound to a tunnel's device."""
    given = [socket.socket()]
    given[0].bind(("127.0.0.2", 0))
    asked: list[str] = []

    def answer(connection: socket.socket) -> None:
        asked.append(connection.getpeername()[0])
        says(b"203.0.113.7")(connection)

    with serving(answer) as url:
        settings = EgressSettings.model_validate({"insecure_http": True, "urls": [url], "timeout_seconds": 5})
        made = Asker(settings, [], given.pop)
        assert made.seen() == ip_address("203.0.113.7") and asked == ["127.0.0.2"]
        with pytest.raises(Unproved, match="pop from empty list"):
            made.seen()
