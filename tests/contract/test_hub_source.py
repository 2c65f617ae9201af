"""Work from another server's queue, checked at that server, which loses, repeats, delays, refuses and lies."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from fleet.model import Fleet, Paths
from fleet.outside.calls import Answer, Web
from hub.delivery.outbox import Outbox, recorder
from hub.delivery.pictures import Pictures
from hub.delivery.sending import Sender
from hub.queue.store import Store
from hub.queue.values import Claimed, Picture
from hub.source.answering import Answering
from hub.source.asking import Asking
from hub.source.journal import SOURCE, Journal
from tests.programs.owner import SECONDS, Server
from tests.queues import FREE, Queue, ending

T = TypeVar("T")
WORKER = "w1101"
WORDS = {"good": "good", "empty": "NOT_FOUND", "limited": "limited", "refused": "refused", "absent": "absent"}
WORDS |= {"failed": "failed", "x" * 40_000: "failed"}
"""By what an allocation asks for, what is to be told of it: the last is too long for any worker."""
BODY = {"/id": "/allocation/id", "/image": "/picture_or_outcome", "/rank": "/run/answer/rank", "/file": "/file"}
BODY |= {"/product/a": "/run/answer/matched/a", "/product/b": "/run/answer/matched/b", "/word": "/outcome"}


class Death(BaseException):
    """The hub is killed."""


class Mortal:
    """Dies once, at its step AT; None: never."""

    def __init__(self, at: int | None = None) -> None:
        self.left = at

    def step(self) -> None:
        """Between two steps."""
        if self.left is None:
            return
        self.left -= 1
        if self.left < 0:
            self.left = None
            raise Death


class Host:
    """A host that does the work of SERVER; MORE of its settings."""

    def __init__(self, queue: Queue, root: Path, server: Server, **more: Any) -> None:
        self.queue, self.paths = queue, Paths(root=root)
        source = {
            "url": f"{server.url}/work",
            "insecure_http": True,
            "arguments": {"query": "/keyword"},
            "site": "shop.example",
            "words": {"empty": "NOT_FOUND"},
            "picture": {
                "url": f"{server.url}/pictures/{{id}}",
                "fields": {"keyword": "/allocation/keyword", "file_name": "/file"},
                "address": "/data/url",
            },
            "result": {"url": f"{server.url}/results/{{id}}", "body": BODY},
            **more,
        }
        self.fleet = Fleet.model_validate(
            {
                "workers": {"count": 3},
                "dns": {"resolvers": ["198.18.0.53"]},
                "egress": {"urls": ["https://a.example/ip"]},
                "task": {"run": "search", "options": {"home": "https://shop.example/"}},
                "hub": {"jobs": "only", "source": source},
            }
        )
        self.spool = self.paths.spool(self.fleet.members[0])
        self.spool.mkdir(parents=True, exist_ok=True)
        self.host = queue.hub("h1").host
        self.store = Store(queue.database, lambda: None, FREE, recorder("h1"))
        self.outbox = Outbox(queue.database, "h1")

    def lives(self, mortal: Mortal | None = None) -> bool:
        """A life of the hub: it asks, its workers work, it answers; whether it lived until there was nothing to do."""
        source, own = self.fleet.hub.source, mortal or Mortal()
        assert source

        async def do(work: Callable[[], T]) -> T:
            own.step()
            done = work()
            own.step()
            return done

        class Line(Web):
            async def ask(self, method: str, url: str, once: str, **content: Any) -> Answer:
                own.step()
                answer = await super().ask(method, url, once, **content)
                own.step()
                return answer

        async def life() -> None:
            web, journal = Line("hub.source", source), Journal(self.queue.database, self.store, "h1")
            asking = Asking(self.fleet, web, journal, do, lambda: False)
            carry = Answering(source, web, Pictures(self.paths), journal, do).carry
            sender = Sender(self.outbox, {SOURCE: carry}, do)
            quiet = 0
            while quiet < 2:
                seconds = await asking.once()
                worked = self.work()
                while (await sender.once())[0]:
                    pass
                idle = seconds == source.pause_seconds and not worked and not self.outbox.backlog()
                quiet = quiet + 1 if idle else 0
                self.queue.ahead(600)

        try:
            asyncio.run(life())
        except Death:
            return False
        return True

    def waits(self, count: int) -> list[float]:
        """How long it waits after each of COUNT questions of a life."""

        async def life() -> list[float]:
            assert self.fleet.hub.source
            web = Web("hub.source", self.fleet.hub.source)
            journal = Journal(self.queue.database, self.store, "h1")

            async def do(work: Callable[[], T]) -> T:
                return work()

            asking = Asking(self.fleet, web, journal, do, lambda: False)
            return [await asking.once() for _ in range(count)]

        return asyncio.run(life())

    def work(self) -> int:
        """Do the jobs that are there, each to the outcome that its query names; how many."""
        self.store.enlist(self.host, 6000, version="0", settings="")
        claimed = self.store.claim(self.host, [WORKER] * 9).jobs
        self.store.finish([self.end(one) for one in claimed])
        return len(claimed)

    def end(self, one: Claimed) -> Any:
        """The end of a run."""
        outcome: Any = one.arguments["query"]
        if outcome not in ("good", "refused"):
            return ending(one, outcome)
        content = f"picture of {one.job}.{one.fence}".encode()
        name = f"{one.job}-{one.fence}.png"
        (self.spool / name).write_bytes(content)
        picture = Picture(name=name, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
        answer = {"rank": 3, "matched": {"a": "17", "b": None}} if outcome == "good" else None
        return ending(one, outcome, pictures=(picture,), answer=answer)

    def left(self) -> list[Any]:
        """What is still to be answered."""
        return [*self.outbox.backlog(), *self.queue.rows("SELECT * FROM allocations")]


@pytest.fixture
def server() -> Iterator[Server]:
    """The owner's."""
    made = Server()
    yield made
    made.shutdown()
    made.server_close()


def give(server: Server, *words: str, prefix: str = "a") -> None:
    """Work for each of WORDS, which name what comes of it."""
    server.work.waiting += [{"id": f"{prefix}{number}", "keyword": word} for number, word in enumerate(words)]


def test_every_outcome_is_answered_once_whatever_the_server_does(queue: Queue, tmp_path: Path, server: Server) -> None:
    """With its word, its picture's address, the ids that matched; and what no worker could do as failed."""
    host = Host(queue, tmp_path, server, timeout_seconds=SECONDS)
    give(server, *WORDS)
    server.moods += ["lost", "false", "silent", "garbage", "500", "302", "good", "good", "429", "endless", "reset"]
    server.moods += ["good", "lost", "garbage", "false"] * 5
    assert host.lives()
    assert host.left() == [] and not server.moods and queue.one("SELECT count(*) FROM jobs") == 0
    first = {name: told[0] for name, told in sorted(server.work.answers.items())}
    assert [one["word"] for one in first.values()] == [*WORDS.values()]
    for name, told in server.work.answers.items():
        assert all(one == told[0] for one in told), name
    good = first["a0"]
    assert (good["id"], good["rank"], good["product"]) == ("a0", 3, {"a": "17", "b": None})
    picture = server.work.pictures[good["image"]]
    assert (picture["keyword"], picture["file_name"]) == ("good", good["file"])
    assert picture["image"] == hashlib.sha256((host.spool / good["file"]).read_bytes()).hexdigest()
    assert first["a1"]["image"] == "NOT_FOUND" and first["a1"]["rank"] is None


def test_a_hub_that_dies_between_any_two_steps_answers_each_once(queue: Queue, tmp_path: Path, server: Server) -> None:
    """At every step: what the server gave out is answered, by the same words each time, and nothing is left."""
    host = Host(queue, tmp_path, server)
    for at in range(100):
        give(server, "good", prefix=f"{at}-")
        died = not host.lives(Mortal(at))
        assert host.lives()
        ((name, told),) = server.work.answers.items()
        server.work.answers.clear()
        assert name == f"{at}-0" and all(one == told[0] for one in told), at
        assert told[0]["image"] in server.work.pictures and host.left() == [], at
        if not died:
            break
    assert at > 20


def test_a_question_without_its_word_loses_what_it_was_answered(
    queue: Queue, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the tests above: their server gives nothing out twice to those who ask by another word."""
    host, words = Host(queue, tmp_path, server), map(str, range(100))
    monkeypatch.setattr(Journal, "ask", lambda _: next(words))
    give(server, "good", "good")
    server.moods += ["lost"]
    assert host.lives()
    assert [*server.work.answers] == ["a1"]


def test_what_is_given_out_again_is_answered_again_and_not_done_again(
    queue: Queue, tmp_path: Path, server: Server
) -> None:
    """A source that has lost an answer gets it once more, word for word."""
    host = Host(queue, tmp_path, server)
    for _ in range(2):
        give(server, "good", "failed")
        assert host.lives()
    for told in server.work.answers.values():
        assert len(told) == 2 and told[0] == told[1]
    assert queue.one("SELECT count(DISTINCT job) FROM runs") == 2 and host.left() == []


def test_no_more_is_asked_for_than_the_workers_can_do(
    queue: Queue, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not begun would lie with us, and no other could do it."""
    host = Host(queue, tmp_path, server, most=2, wait_seconds=86_400)
    monkeypatch.setattr(host, "work", lambda: 0)
    give(server, *["good"] * 9)
    assert host.lives()
    assert len(server.work.waiting) == 7


def test_settings_that_fit_nothing_do_not_use_up_the_queue(queue: Queue, tmp_path: Path, server: Server) -> None:
    """Each that cannot be a job is answered as failed, and costs more time than the one before."""
    host = Host(queue, tmp_path, server)
    give(server, *["x" * 40_000] * 3)
    assert all(seconds > 0 for seconds in host.waits(3)) and host.waits(3)[-1] == 10
    assert host.lives()
    assert [told[0]["word"] for told in server.work.answers.values()] == ["failed"] * 3


def test_what_cannot_begin_in_time_is_answered(queue: Queue, tmp_path: Path, server: Server) -> None:
    """A site that is paused keeps no allocation for ever."""
    host = Host(queue, tmp_path, server)
    host.store.pace("shop.example", FREE)
    host.store.pause("shop.example", paused=True)
    give(server, "good")
    for _ in range(2):
        assert host.lives()
    assert [one["word"] for one in server.work.answers["a0"]] == ["failed"] and host.left() == []


def test_a_picture_that_nobody_can_have_is_answered(queue: Queue, tmp_path: Path, server: Server) -> None:
    """Its server refuses it for good: the run is answered as failed."""
    host = Host(queue, tmp_path, server)
    give(server, "good")
    server.moods += ["good", "413"]
    assert host.lives()
    (told,) = server.work.answers["a0"]
    assert (told["word"], told["image"]) == ("failed", "failed") and host.left() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"insecure_http": False},
        {"url": "https://me:pass@work.example/"},
        {"id": "id"},
        {"result": {"url": "https://work.example/", "body": {}}},
        {"words": {"perfect": "x"}},
    ],
)
def test_a_source_that_cannot_be_is_named(wrong: dict[str, Any], server: Server) -> None:
    """By its key, before anything starts."""
    with pytest.raises(ValueError, match=r"hub\.source"):
        Host.__init__(Host.__new__(Host), None, Path("/nowhere"), server, **wrong)  # type: ignore[arg-type]
