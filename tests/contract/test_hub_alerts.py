"""Alerts about what jobs find, on both engines: written with the run, sent at least once, checked at the receiver."""

from __future__ import annotations

import asyncio
import email
import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from fleet.errors import ConfigurationError, DatabaseFailed
from fleet.outcomes import Ending
from fleet.settings.alerts import AlertSettings, AlertTargetSettings
from hub.alerts import recording
from hub.alerts.telling import Teller, message
from hub.delivery.outbox import Outbox, recorder
from hub.delivery.sending import Sender
from hub.delivery.signing import signed
from hub.queue.repeat import Interval
from hub.queue.store import Store
from hub.queue.values import Finished, Taken
from tests.programs.owner import Server
from tests.queues import FREE, Queue, ending, jobs

T = TypeVar("T")
CHEAP = {"value": "/answer/price", "when": "below", "than": 10, "targets": ["hook", "mail"], "repeat_minutes": 30}


class Mailbox(socketserver.ThreadingTCPServer):
    """An SMTP server (RFC 5321) that keeps what it gets, and refuses the first mails temporarily."""

    daemon_threads = True

    def __init__(self, refused: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), Letters)
        self.refused = refused
        self.letters: list[bytes] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()


class Letters(socketserver.StreamRequestHandler):
    """One SMTP session."""

    server: Mailbox

    def handle(self) -> None:
        """Answer each line."""
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline().strip().upper():
            if line == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                letter = b"".join(iter(self.rfile.readline, b".\r\n"))
                if self.server.refused:
                    self.server.refused -= 1
                    self.wfile.write(b"451 later\r\n")
                    continue
                self.server.letters.append(letter)
            self.wfile.write(b"250 yes\r\n")
            if line == b"QUIT":
                return


class Host:
    """A host with the rule `cheap`, with MORE settings."""

    def __init__(self, queue: Queue, **more: Any) -> None:
        self.queue, self.host = queue, queue.hub("h1").host
        self.rules = {"cheap": AlertSettings.model_validate({**CHEAP, **more})}
        record = recording.recorder(self.rules, "h1", recorder("h1"))
        self.store = Store(queue.database, lambda: None, FREE, record)
        self.outbox = Outbox(queue.database, "h1")
        (self.receipt,) = self.store.add(jobs("a", key="tea", repeat=Interval(60)))

    def run(self, price: int | None, outcome: Ending = "good") -> int:
        """End a run that finds PRICE; returns its fence."""
        self.store.enlist(self.host, 600, version="0", settings="")
        (claimed,) = self.store.claim(self.host, ["w1"]).jobs
        answer = None if price is None else {"price": price}
        assert self.store.finish([ending(claimed, outcome, answer=answer, exit="kr")]) == [Taken.EFFECTIVE]
        self.queue.ahead(61)
        return claimed.fence

    def waiting(self) -> list[str]:
        """The targets of the waiting messages."""
        return sorted(one.target.removeprefix("hub.alert:cheap:") for one in self.outbox.due(100)[0])

    def tell(self, targets: dict[str, AlertTargetSettings], passes: int = 1) -> None:
        """Let the sender run PASSES times, hours apart."""

        async def do(work: Callable[[], T]) -> T:
            return work()

        async def work() -> None:
            sender = Sender(self.outbox, {recording.CARRIER: Teller(self.rules, targets).carry}, do)
            for _ in range(passes):
                while (await sender.once())[0]:
                    pass
                self.queue.ahead(7200)

        asyncio.run(work())


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    """A mailbox that does not take the first letter at once."""
    made = Mailbox(refused=1)
    yield made
    made.shutdown()
    made.server_close()


def test_it_is_told_when_it_begins_and_when_it_is_over(queue: Queue) -> None:
    """Each target gets one message, however many runs agree; it is repeated while nobody handles the alert."""
    host = Host(queue)
    for price in (11, 9, 8):
        host.run(price)
    assert host.waiting() == ["begun:hook", "begun:mail"]
    assert recording.remind(queue.database, host.rules, "h1") == 0
    queue.ahead(1800)
    assert recording.remind(queue.database, host.rules, "h2") == 0
    assert recording.remind(queue.database, host.rules, "h1") == 0, "its targets have not heard of the beginning yet"
    for one in host.outbox.due(9)[0]:
        host.outbox.arrived(one.id)
    assert [recording.remind(queue.database, host.rules, "h1") for _ in range(2)] == [1, 0]
    assert host.waiting() == ["again-1:hook", "again-1:mail"]
    (lasting,) = recording.open_ones(queue.database)
    assert (lasting["rule"], lasting["job"], lasting["handled"]) == ("cheap", host.receipt.job, False)
    assert recording.handle(queue.database, "cheap", host.receipt.job)
    queue.ahead(36_000)
    assert recording.remind(queue.database, host.rules, "h1") == 0
    host.run(None, "limited")
    assert len(recording.open_ones(queue.database)) == 1
    queue.ahead(100_000)
    host.run(12)
    assert recording.open_ones(queue.database) == [] and "over:hook" in host.waiting()
    assert not recording.handle(queue.database, "cheap", host.receipt.job)
    host.run(5)
    (lasting,) = recording.open_ones(queue.database)
    assert not lasting["handled"] and host.waiting().count("begun:hook") == 1


def test_a_word_and_its_run_are_one_transaction(queue: Queue) -> None:
    """If the message cannot be written, the run has not ended either; after a retry it is sent once."""
    host = Host(queue)
    queue.change("ALTER TABLE alerts RENAME TO away")
    with pytest.raises(DatabaseFailed):
        host.run(9)
    queue.change("ALTER TABLE away RENAME TO alerts")
    ((job, lease),) = host.store.held(host.host).items()
    end = Finished(job=job, fence=lease[0], outcome="good", answer={"price": 9})
    assert host.store.finish([end]) == [Taken.EFFECTIVE] and host.store.finish([end]) == [Taken.REPEATED]
    assert host.waiting() == ["begun:hook", "begun:mail"]


def test_words_of_a_page_are_text_to_who_is_told(queue: Queue) -> None:
    """Characters that a terminal or a chat would obey are shown by number; the value beside the text is unchanged."""
    host = Host(queue, when="changed", than=None, repeat_minutes=0)
    host.run(1)
    host.run(2)
    run = replace(host.outbox.due(1)[0][0], answer={"price": "\u202e9\x1b["})
    told = message("cheap", host.rules["cheap"], "happened", run)
    assert str(told["words"]).endswith(r"\u202e9\x1b[") and told["value"] == "\u202e9\x1b["


def test_a_webhook_and_a_mailbox_get_it(queue: Queue, tmp_path: Path, hook: Server, mailbox: Mailbox) -> None:
    """They are signed, in plain text, and repeated after a failure; a page's text stays on its line."""
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    targets = {
        "hook": AlertTargetSettings(url=f"{hook.url}/hook", insecure=True, secret_file=str(secret)),
        "mail": AlertTargetSettings(
            url=f"smtp://127.0.0.1:{mailbox.server_address[1]}",
            insecure=True,
            sender="fleet@a.example",
            recipients=("me@b.example",),
        ),
    }
    host = Host(queue, value="/answer/price", when="changed", than=None, repeat_minutes=0)
    host.run(1)
    hook.moods += ["503", "lost"]
    fence = host.run(2)
    host.tell(targets, passes=3)
    assert host.outbox.backlog() == []
    once = f"{host.receipt.job}.{fence}.cheap.happened"
    assert {key for key, _, _ in hook.taken} == {once} and len(hook.taken) == 2
    told = json.loads(hook.taken[0][2])
    assert [told[key] for key in ("alert", "what", "value", "key", "exit")] == ["cheap", "happened", 2, "tea", "kr"]
    headers = hook.headers[-1]
    stamp = int(headers["webhook-timestamp"])
    assert headers["webhook-signature"] == signed(once, hook.taken[-1][2], "s3cret", stamp)["webhook-signature"]
    (letter,) = map(email.message_from_bytes, mailbox.letters)
    assert letter["Subject"] == "cheap: tea: /answer/price changed: 2" and letter["To"] == "me@b.example"
    assert letter["Message-ID"] == f"<{once}@a.example>"
    missing = {"hook": targets["hook"]}
    with pytest.raises(ConfigurationError, match=r"hub\.alert_targets\.mail"):
        Teller(host.rules, missing)
    secret.unlink()
    with pytest.raises(ConfigurationError, match="secret_file"):
        Teller(host.rules, targets)


def test_apprise_tells_a_service(
    queue: Queue, tmp_path: Path, hook: Server, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its address is on no command line, in no table and in no log; after a failure or time-out it is retried later."""
    words: list[Any] = []
    start = asyncio.create_subprocess_exec

    async def heard(*argv: Any, **settings: Any) -> asyncio.subprocess.Process:
        words.extend((argv, settings["env"]))
        return await start(*argv, **settings)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", heard)
    address, secret = f"{hook.url.replace('http', 'json')}/s3cret/hook", tmp_path / "address"
    secret.write_text(address)
    targets = {"hook": AlertTargetSettings(url="apprise:", secret_file=str(secret))}
    host = Host(queue, value="/answer/price", when="changed", than=None, repeat_minutes=0, targets=["hook"])
    host.run(1)
    host.run(2)
    host.tell({"hook": targets["hook"].model_copy(update={"timeout_seconds": 0.02})})
    assert [one.why for one in host.outbox.backlog()] == ["not sent within 0.02 s"]
    hook.moods += ["500"]
    host.tell(targets)
    assert "could not send it" in str(host.outbox.backlog()) and hook.taken == []
    host.tell(targets)
    assert host.outbox.backlog() == []
    (told,) = hook.taken
    assert told[1] == "/s3cret/hook" and json.loads(told[2])["title"] == "cheap: tea: /answer/price changed: 2"
    secret.write_text("nosuchservice://s3cret")
    host = Host(queue, value="/answer/price", when="changed", than=None, repeat_minutes=0, targets=["hook"])
    host.run(3)
    host.tell(targets)
    assert [one.aside for one in host.outbox.backlog()] == [1]
    for text in (*capfd.readouterr(), str(words), *map(str, queue.rows("SELECT * FROM outbox"))):
        assert "s3cret" not in text
