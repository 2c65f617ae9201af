"""Deliveries, checked at their targets: a folder, and servers that lose, repeat, delay, refuse and lie."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import ssl
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

import pytest

from fleet.errors import ConfigurationError
from fleet.model import Fleet, Paths
from fleet.outside import calls
from hub.delivery.outbox import Outbox, recorder
from hub.delivery.pictures import Pictures
from hub.delivery.sending import Sender
from hub.delivery.targets import carriers_of
from hub.queue.store import Store
from hub.queue.values import Picture
from lab.site import certificate
from tests.programs.owner import SECONDS, Server, form
from tests.queues import FREE, Queue, ending, jobs
from tests.waiting import until

T = TypeVar("T")
PICTURE = b"\x89PNG" + bytes(50_000)
WORKER = "w1101"


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts servers."""
    made: list[Server] = []

    def start(*moods: str) -> Server:
        made.append(Server(*moods))
        return made[-1]

    yield start
    for one in made:
        one.shutdown()
        one.server_close()


class Host:
    """A host whose runs go to one target."""

    def __init__(self, queue: Queue, root: Path, **target: Any) -> None:
        self.queue = queue
        self.fleet = Fleet.model_validate(
            {
                "workers": {"count": 1},
                "dns": {"resolvers": ["198.18.0.53"]},
                "egress": {"urls": ["https://a.example/ip"]},
                "hub": {"targets": {"it": {"insecure_http": True, **target}}},
            }
        )
        self.paths = Paths(root=root)
        self.spool = self.paths.spool(self.fleet.members[0])
        self.spool.mkdir(parents=True, exist_ok=True)
        hub = queue.hub("h1")
        self.store, self.host = Store(queue.database, lambda: None, FREE, recorder("h1")), hub.host
        self.outbox = Outbox(queue.database, "h1")

    def end(self, count: int) -> list[tuple[int, int]]:
        """End COUNT runs, each with its own picture."""
        self.store.add(jobs(*("a" for _ in range(count)), targets=("it",)))
        ends = []
        for one in [self.store.claim(self.host, [WORKER]).jobs[0] for _ in range(count)]:
            content = PICTURE + str(one.job).encode()
            (self.spool / f"{one.job}.png").write_bytes(content)
            sha256 = hashlib.sha256(content).hexdigest()
            picture = Picture(name=f"{one.job}.png", sha256=sha256, size_bytes=len(content))
            ends.append(ending(one, answer={"price": one.job}, pictures=(picture,)))
        self.store.finish(ends)
        return [(one.job, one.fence) for one in ends]

    def send(self, passes: int = 1) -> bool:
        """So many passes of the sender, hours apart."""

        async def work() -> None:
            async def do(what: Callable[[], T]) -> T:
                return what()

            sender = Sender(self.outbox, carriers_of(self.fleet, Pictures(self.paths)), do)  # type: ignore[arg-type]
            for _ in range(passes):
                while (await sender.once())[0]:
                    pass
                self.queue.ahead(7200)

        asyncio.run(work())
        return False

    def backlog(self) -> list[tuple[int, int]]:
        """Numbers of waiting and of refused deliveries."""
        return [(one.waiting, one.aside) for one in self.outbox.backlog()]


MOODS = ["silent", "endless", "dripping", "lost", "reset", "again", "503", "500", "302", "401", "429", "404"]


def test_every_run_is_at_the_target_whatever_it_did_meanwhile(
    queue: Queue, tmp_path: Path, serve: Callable[..., Server]
) -> None:
    """Each arrives once by its key, with its own picture intact; nothing is left, and no redirect is followed."""
    server = serve(*MOODS)
    host = Host(queue, tmp_path, url=f"{server.url}/runs/{{job}}", timeout_seconds=SECONDS)
    runs = host.end(6)
    until("all are there", lambda: host.send() or host.backlog() == [], 30, host.backlog)
    by_key = {key: (path, body) for key, path, body in server.taken}
    assert sorted(path for path, _ in by_key.values()) == [f"/runs/{job}" for job, _ in runs]
    for path, body in by_key.values():
        job = path.rpartition("/")[2]
        assert PICTURE + job.encode() in body
        told = json.loads(form(body)["run"])
        assert (told["answer"], told["outcome"]) == ({"price": int(job)}, "good")
    answers = queue.rows("SELECT answer FROM delivered")
    assert len(answers) == 6 and all(json.loads(one.answer)["status"] in (200, 201, 409) for one in answers)


def test_what_is_refused_for_good_lies_aside_until_it_is_asked_for(
    queue: Queue, tmp_path: Path, serve: Callable[..., Server]
) -> None:
    """It is not sent again automatically."""
    server = serve("400", "422")
    host = Host(queue, tmp_path, url=server.url)
    host.end(2)
    host.send(passes=3)
    assert (host.backlog(), server.taken) == ([(0, 2)], [])
    assert host.outbox.again() == 2
    host.send()
    assert (host.backlog(), len(server.taken)) == ([], 2)


@pytest.mark.parametrize("addresses", ["sqlite"], indirect=True, scope="session")
def test_a_form_of_its_own_and_what_its_answer_says(queue: Queue, tmp_path: Path, serve: Callable[..., Server]) -> None:
    """Fields by pointers, the address out of the answer; a good status that says `false`, or nothing, is none.

    409 is there already, without an address.
    """
    server = serve("false", "503", "500")
    fields = {"keyword": "/run/site", "price": "/run/answer/price", "name": "/file", "rank": "/run/answer/rank"}
    wanted = {"file": "image", "fields": fields, "address": "/data/url"}
    target = {"url": f"{server.url}/pictures/{{job}}", "success_is": True, "form": wanted}
    host = Host(queue, tmp_path, **target)
    ((job, _),) = host.end(1)
    host.send(passes=3)
    assert host.backlog() == [(1, 0)] and server.work.pictures == {}
    host.send()
    ((address, sent),) = server.work.pictures.items()
    sum_of_picture = hashlib.sha256(PICTURE + str(job).encode()).hexdigest()
    assert sent == {"keyword": "a", "price": str(job), "name": f"{job}.png", "rank": "null", "image": sum_of_picture}
    assert json.loads(queue.one("SELECT answer FROM delivered"))["address"] == address
    server.moods.append("again")
    host = Host(queue, tmp_path, **target)
    host.end(1)
    host.send()
    answers = [json.loads(row.answer) for row in queue.rows("SELECT answer FROM delivered ORDER BY job")]
    assert host.backlog() == [] and [answer["status"] for answer in answers] == [200, 409]


@pytest.mark.parametrize("addresses", ["sqlite"], indirect=True, scope="session")
def test_a_word_for_success(queue: Queue, tmp_path: Path, serve: Callable[..., Server]) -> None:
    """Whatever else an answer says there has failed; without the word, `false` alone has, and no JSON is wanted."""
    server, other = serve("garbage", "false"), serve()
    host = Host(queue, tmp_path, url=server.url)
    host.end(2)
    host.send()
    assert host.backlog() == [(1, 0)]
    strict = Host(queue, tmp_path, url=other.url, success="/address", success_is="OK")
    strict.send(passes=2)
    assert strict.backlog() == [(1, 0)] and "it failed" in queue.one("SELECT error FROM outbox")


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("addresses", ["sqlite"], indirect=True, scope="session")
def test_what_is_sent_can_be_signed(queue: Queue, tmp_path: Path, serve: Callable[..., Server], method: str) -> None:
    """With the secret of a file, as standardwebhooks.com says: over all of the body; the secret itself is not sent."""
    secret, server = tmp_path / "secret", serve()
    secret.write_text("s3cret-of-both\n")
    host = Host(queue, tmp_path, url=f"{server.url}/{{name}}", method=method, secret_file=str(secret))
    host.end(1)
    host.send()
    ids = {headers["webhook-id"] for headers in server.headers}
    assert len(server.taken) == len(ids) == (1 if method == "POST" else 2) and "." not in "".join(ids)
    for (_, _, body), headers in zip(server.taken, server.headers, strict=True):
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        own = hmac.new(b"s3cret-of-both", signed, hashlib.sha256).digest()
        assert headers["webhook-signature"] == f"v1,{base64.b64encode(own).decode()}"
        assert "s3cret" not in str(headers) and b"s3cret" not in body
    for nothing in ("", "whsec_", "whsec_=x"):
        secret.write_text(nothing)
        with pytest.raises(ConfigurationError, match="secret_file"):
            host.send()


@pytest.mark.parametrize("addresses", ["sqlite"], indirect=True, scope="session")
def test_https_that_hangs_or_that_nobody_vouches_for_is_waited_for(
    queue: Queue, tmp_path: Path, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handshake that never ends, half a body that is heard, a certificate of nobody: later; and then it is there."""
    certificate.write(tmp_path / "ca.pem", tmp_path, [ip_address("127.0.0.1")])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    plain, server = serve("silent"), serve("half", "reset", "503")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    host = Host(queue, tmp_path, url=plain.url.replace("http:", "https:"), timeout_seconds=SECONDS)
    host.end(1)
    host.send()
    host.fleet.hub.targets["it"] = host.fleet.hub.targets["it"].model_copy(
        update={"url": server.url.replace("http:", "https:"), "timeout_seconds": 5}
    )
    calls._trust.cache_clear()
    host.send()
    assert "certificate" in queue.one("SELECT error FROM outbox") and server.taken == []
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    calls._trust.cache_clear()
    until("it is there", lambda: host.send() or host.backlog() == [], 30, host.backlog)
    monkeypatch.delenv("SSL_CERT_FILE")
    calls._trust.cache_clear()
    assert {key for key, _, _ in server.taken} == {server.taken[0][0]} and server.moods == []


def test_put_sends_each_file_to_its_own_address(
    queue: Queue,
    tmp_path: Path,
    serve: Callable[..., Server],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The JSON last; the secret of the headers is in no table and no log, also where a target says it back."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # the host's own route, whatever that says
    secret = tmp_path / "headers"
    secret.write_text("Authorization: Bearer s3cret\n")
    server = serve("echo", "lost")
    host = Host(queue, tmp_path, url=f"{server.url}/{{name}}", method="PUT", headers_file=str(secret))
    ((job, fence),) = host.end(1)
    host.send()
    (error,) = queue.rows("SELECT error FROM outbox")
    host.send(passes=2)
    assert [path for _, path, _ in server.taken[-2:]] == [f"/{job}.png", f"/job-{job}-{fence:06d}.json"]
    assert server.taken[-2][2] == PICTURE + str(job).encode()
    assert "Authorization: ***" in error.error
    for text in (error.error, *map(str, queue.rows("SELECT * FROM delivered")), *capfd.readouterr()):
        assert "s3cret" not in text
    secret.write_text("nothing")
    with pytest.raises(ConfigurationError, match="headers_file"):
        host.send()


@pytest.mark.parametrize("addresses", ["sqlite"], indirect=True, scope="session")
def test_a_folder_has_whole_files_and_waits_for_its_disk(queue: Queue, tmp_path: Path) -> None:
    """A missing folder, such as of a disk that is not mounted, is waited for and not made."""
    folder = tmp_path / "results"
    host = Host(queue, tmp_path, url=f"file://{folder}")
    ((job, fence),) = host.end(1)
    host.send()
    assert host.backlog() == [(1, 0)] and not folder.exists()
    folder.mkdir()
    host.send(passes=2)
    assert host.backlog() == []
    assert {path.name for path in folder.iterdir()} == {f"{job}.png", f"job-{job}-{fence:06d}.json"}
    assert json.loads((folder / f"job-{job}-{fence:06d}.json").read_text())["answer"] == {"price": job}


@pytest.mark.parametrize("addresses", ["sqlite"], indirect=True, scope="session")
def test_a_picture_that_is_another_one_by_now_is_not_sent(
    queue: Queue, tmp_path: Path, serve: Callable[..., Server]
) -> None:
    """If a worker changes, links or removes its file, nothing of it is delivered, and the reason is kept."""
    server = serve()
    host = Host(queue, tmp_path, url=server.url)
    changed, linked, gone, kept = (job for job, _ in host.end(4))
    (host.spool / f"{changed}.png").write_bytes(b"other")
    (host.spool / f"{linked}.png").unlink()
    (host.spool / f"{linked}.png").symlink_to("/etc/passwd")
    (host.spool / f"{gone}.png").unlink()
    host.send()
    assert [body for _, _, body in server.taken if b"root:" in body] == []
    assert len(server.taken) == 1 and PICTURE + str(kept).encode() in server.taken[0][2]
    errors = [row.error for row in queue.rows("SELECT error FROM outbox ORDER BY job")]
    assert len(errors) == 3 and "has changed" in errors[0] and "no longer exists" in errors[2]


@pytest.mark.parametrize(
    "target",
    [
        {"url": "ftp://a/"},
        {"url": "file://host/x"},
        {"url": "http://a.example/", "insecure_http": False},
        {"url": "https:///x"},
        {"url": "https://a.example/", "method": "GET"},
    ],
)
def test_a_target_that_cannot_be_is_named(target: dict[str, Any]) -> None:
    """The error names its key, before anything starts."""
    with pytest.raises(ValueError, match=r"hub\.targets\.it"):
        Host.__init__(Host.__new__(Host), None, Path(os.devnull), **target)  # type: ignore[arg-type]
