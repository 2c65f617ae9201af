"""A hub with a page and some runs, one of them with markup in its texts; needs no root."""

from __future__ import annotations

import hashlib
import http.client
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from anyio.from_thread import start_blocking_portal

from fleet.db import Database
from fleet.model import Paths, Worker
from fleet.outcomes import Ending
from fleet.sockets.callers import Caller, Connection, Limits, Rate, Table
from fleet.sockets.netctl_api import COUNTS_KEYS, TABLE, KeysByServer, Servers
from fleet.sockets.rpc import Server
from hub.delivery.outbox import recorder
from hub.queue.repeat import Interval
from hub.queue.schema import jobs, runs
from hub.queue.schema import pictures as known_pictures
from hub.queue.store import Host, Store
from hub.queue.values import Finished, Job, Pace, Picture
from netctl.pool.contract import Wish
from netctl.pool.store import Store as KeyStore
from netctl.pool.updates import Found
from tests.hubs import FLEET, laid_out, started
from tests.unit.test_netctl_keys import key

PORT = 8470
TOKEN = "t" * 20
ONE, *_ = FLEET.members
SCRIPT = "<script>document.title='taken'</script><img src=x onerror=document.title='taken'>"
TURNED = "\u202egnp"
ACTS = ["pause", "resume", "retry", "stop", "start"]
WHOLE = {**FLEET.model_dump(), "hub": {"jobs": "first", "web": {"port": PORT, "token_file": "TOKEN", "acts": ACTS}}}
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d4944415478da6364f8cfc0000003030100"
    "c9fe92ef0000000049454e44ae426082"
)
Seen = tuple[str, Ending, float | None]
"""Exit, outcome, price."""
DETAILS = {
    "stages_ms": {
        "tunnel": 310.5,
        "proof": 420.1,
        "browser_start": 900,
        "load": 2300,
        "search": 1500,
        "screenshot": 410,
        "browser_end": 160,
        "hand_in": 21,
    },
    "requests": 87,
    "failures": [{"name": "PageGone", "stage": "load", "message": SCRIPT}],
    "notes": [SCRIPT],
}
NAME = "job-1-000001.png"
ELSEWHERE = Host("elsewhere", "life")


@dataclass(frozen=True)
class Scene:
    """A hub with a page, and access to its queue."""

    paths: Paths
    store: Store
    database: Database
    words: str = SCRIPT
    """Untrusted text, as a site would return it."""

    def run(self, key: str, outcome: Ending, **more: Any) -> None:
        """Add a job under KEY, and end its run by worker ONE with OUTCOME."""
        self.store.add([Job(site="a.example", task="visit", key=key, attempts=1)])
        (work,) = self.store.claim(ELSEWHERE, [ONE.name]).jobs
        self.store.finish([Finished(job=work.job, fence=work.fence, outcome=outcome, **more)])

    def watch(self, key: str, seen: Sequence[Seen], pictures: Sequence[bytes] = (PNG,)) -> int:
        """Add a repeating job with a run for each of SEEN (exit, outcome, price); returns its number.

        Good runs use PICTURES in turn. One run goes through the queue, so the next is due in an hour.
        """
        (receipt,) = self.store.add([Job(site="shop.example", task="watch", key=key, repeat=Interval(3600))])
        (work,) = self.store.claim(ELSEWHERE, [ONE.name]).jobs
        self.store.finish([Finished(job=work.job, fence=work.fence, outcome="good")])
        with self.database.engine.begin() as db:
            db.execute(sa.delete(runs).where(runs.c.job == receipt.job))
            for fence, (server, outcome, price) in enumerate(seen, 1):
                ended_at = time.time() - 600 * (len(seen) - fence)
                found = {"price": {"amount": price, "currency": "KRW"}, "title": self.words}
                answer = None if price is None else json.dumps({"fields": found})
                row = {"job": receipt.job, "fence": fence, "key": key, "site": "shop.example", "task": "watch"}
                row |= {"arguments": "{}", "host": "elsewhere", "worker": FLEET.members[fence % 4].name, "exit": server}
                row |= {"began_at": ended_at - 8 - fence % 5, "ended_at": ended_at, "outcome": outcome}
                row |= {"error": None if outcome == "good" else "the shop says: too many questions"}
                details = json.dumps(DETAILS).replace(json.dumps(SCRIPT), json.dumps(self.words))
                row |= {"answer": answer, "details": details}
                db.execute(sa.insert(runs).values(row))
                if outcome == "good":
                    self._picture(db, FLEET.members[fence % 4], receipt.job, fence, pictures[fence % len(pictures)])
            db.execute(sa.update(jobs).where(jobs.c.id == receipt.job).values(fence=len(seen)))
        return receipt.job

    def _picture(self, db: sa.Connection, worker: Worker, job: int, fence: int, content: bytes) -> None:
        name = f"job-{job}-{fence:06d}.png"
        self.paths.spool(worker).mkdir(parents=True, exist_ok=True)
        (self.paths.spool(worker) / name).write_bytes(content)
        row = {"job": job, "fence": fence, "name": name, "sha256": hashlib.sha256(content).hexdigest()}
        db.execute(sa.insert(known_pictures).values(**row, size_bytes=len(content)))


class Keys:
    """Answers the hub's question about keys in netctl's place, from a real key store without tunnels."""

    def __init__(self, paths: Paths, words: str) -> None:
        store = KeyStore(paths.key_store)
        numbered = enumerate((("KR", "kr-1"), ("KR", "kr-1"), ("JP", "jp-1"), ("JP", "jp-1"), ("DE", "de-1")), 1)
        store.add([Found(f"{n}.conf", key(n, f"{name}.vpn.example"), region) for n, (region, name) in numbered])
        for number, region in enumerate(("KR", "JP", "DE")):
            wish = Wish(uid=ONE.uid + number, owner="o", server=region)
            lease = store.take([wish], 0)[wish]
            assert lease
            if region == "DE":
                more = f": {words}" if words == SCRIPT else ""
                store.note(lease, f"no answer from {lease.key.server}{more}", {lease.key.server: 3600.0})
                store.ending(lease.uid)
                store.ended([(lease.uid, None)])
            else:
                store.ended([(lease.uid, lease.generation)])
        self._found = Servers(servers=tuple(store.servers(3600)), more=0)
        store.close()

    async def keys_by_server(self, _: Connection, request: KeysByServer) -> Servers:
        """See netctl.service."""
        return self._found

    async def closed(self, connection: Connection) -> None:
        """A connection has no state here."""


@contextmanager
def told(paths: Paths, words: str) -> Iterator[None]:
    """Serve Keys at netctl's socket."""
    paths.netctl_socket.parent.mkdir(parents=True)
    table = Table("netctl", TABLE.rows["keys_by_server"])
    limits = Limits(rates={COUNTS_KEYS: Rate(per_second=100, burst=100)})
    server = Server(table, Keys(paths, words), caller=lambda _: Caller.HUB, limits=limits)
    with start_blocking_portal() as portal:
        portal.call(server.start, paths.netctl_socket)
        try:
            yield
        finally:
            portal.call(server.close)


@contextmanager
def shown(root: Path, words: str = SCRIPT, **web: str) -> Iterator[Scene]:
    """A hub with a good run with a picture, and a failed one; WORDS is their text; WEB: more settings of the page."""
    paths = Paths(root=root)
    paths.spool(ONE).mkdir(parents=True)
    (paths.spool(ONE) / NAME).write_bytes(PNG)
    (root / "token").write_text(f"{TOKEN}\n")
    whole = json.loads(json.dumps(WHOLE, default=str).replace("TOKEN", f"{root}/token"))
    whole["hub"]["web"] |= web
    database = laid_out(paths, type(FLEET).model_validate(whole))
    pace, record = Pace(interval_seconds=0, most=100), recorder("elsewhere")
    made = Scene(paths, Store(database, lambda: None, pace, record=record), database, words)
    made.store.enlist(ELSEWHERE, 1000, version="", settings="")
    picture = Picture(name=NAME, sha256=hashlib.sha256(PNG).hexdigest(), size_bytes=len(PNG))
    stages: dict[str, Any] = {"stages_ms": {"load": 7, words: 3}}
    made.run(words, "good", answer={"title": words, "price": 3}, details=stages, pictures=(picture,))
    made.run("second", "failed", error=f"{words}{TURNED}")
    hub = started(paths, lambda: status("/healthz"))
    try:
        with told(paths, words):
            yield made
    finally:
        hub.terminate()
        assert hub.wait(20) == 0
        database.close()


def ask(path: str, method: str = "GET", body: str = "", **headers: str) -> tuple[int, dict[str, str], str]:
    """Status, headers and text of an answer."""
    with_host = {"Host": f"127.0.0.1:{PORT}", **{name.replace("_", "-"): value for name, value in headers.items()}}
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=20)
    try:
        connection.request(method, path, body.encode() or None, headers=with_host)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode(errors="replace")
    finally:
        connection.close()


def status(path: str, method: str = "GET", **headers: str) -> int:
    """The status of an answer; 0 if nothing listens."""
    try:
        return ask(path, method, **headers)[0]
    except OSError:
        return 0
