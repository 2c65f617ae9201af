"""Deliveries into a bucket of a real S3 service, and to servers that refuse, hang up and do not answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest

from fleet.errors import ConfigurationError
from tests.buckets import BUCKET, KEYS, Service, running
from tests.contract.test_hub_delivery import PICTURE, Host
from tests.contract.test_hub_delivery import serve as serve  # noqa: PLC0414 - a fixture
from tests.programs.owner import SECONDS, Server
from tests.queues import Queue
from tests.waiting import until

pytestmark = pytest.mark.parametrize("addresses", ["sqlite"], indirect=True, scope="session")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service."""
    folder = tmp_path_factory.mktemp("s3") / "data"
    folder.mkdir()
    with running(folder) as made:
        yield made


def host(queue: Queue, root: Path, endpoint: str, **more: Any) -> Host:
    """A host whose runs go to the bucket."""
    keys = root / "keys"
    keys.write_text("".join(f"{name}: {value}\n" for name, value in {**KEYS, **more.pop("keys", {})}.items()))
    url = f"s3://{BUCKET}/{root.name}/{{job}}"
    return Host(queue, root, **{"url": url, "endpoint": endpoint, "keys_file": str(keys), **more})


def test_every_run_is_in_the_bucket_once(queue: Queue, tmp_path: Path, service: Service) -> None:
    """Its files are intact under their keys; sent again after a lost answer, they are recognised and left unchanged."""
    made = host(queue, tmp_path, service.url)
    runs = made.end(3)
    made.send()
    assert made.backlog() == []
    there = {key: content for key, content in service.files().items() if key.startswith(tmp_path.name)}
    pictures = {f"{tmp_path.name}/{job}/{job}.png": PICTURE + str(job).encode() for job, _ in runs}
    texts = {f"{tmp_path.name}/{job}/job-{job}-{fence:06d}.json" for job, fence in runs}
    assert there.keys() == pictures.keys() | texts and there.items() >= pictures.items()
    before = {one["path"]: one["last_modified"] for page in obstore.list(service.store) for one in page}
    queue.change(
        "INSERT INTO outbox (job, fence, target, host, since, due_at, tries, aside) "
        "SELECT job, fence, target, 'h1', 0, 0, 1, false FROM delivered"
    )
    queue.change("DELETE FROM delivered")
    made.send()
    assert made.backlog() == [] and queue.one("SELECT count(*) FROM delivered") == 3
    assert {one["path"]: one["last_modified"] for page in obstore.list(service.store) for one in page} == before


def test_what_lies_there_is_never_written_over(queue: Queue, tmp_path: Path, service: Service) -> None:
    """With another file under its key, even of the same length, the run is set aside, and that file is unchanged."""
    made = host(queue, tmp_path, service.url)
    ((job, _),) = made.end(1)
    key, other = f"{tmp_path.name}/{job}/{job}.png", bytes(len(PICTURE) + len(str(job)))
    obstore.put(service.store, key, other)
    made.send(passes=2)
    assert made.backlog() == [(0, 1)] and service.files()[key] == other
    assert "another file" in queue.one("SELECT error FROM outbox")


def test_a_wrong_key_waits_for_the_right_one(queue: Queue, tmp_path: Path, service: Service) -> None:
    """Nothing is lost meanwhile, and no message has the secret."""
    made = host(queue, tmp_path, service.url, keys={"secret_access_key": "wrong-s3cret"})
    made.end(1)
    made.send()
    assert made.backlog() == [(1, 0)]
    error = queue.one("SELECT error FROM outbox")
    assert "PermissionDenied" in error and "wrong-s3cret" not in error
    host(queue, tmp_path, service.url).send(passes=2)
    assert made.backlog() == []


def test_a_service_in_trouble_is_tried_again_by_the_outbox_alone(
    queue: Queue, tmp_path: Path, serve: Callable[..., Server]
) -> None:
    """No answer, slow, reset, half an answer, 429, broken: one request for each try, and everything arrives."""
    moods = ["503", "silent", "reset", "500", "dripping", "429", "403", "endless"]
    server = serve(*moods)
    made = host(queue, tmp_path, server.url, timeout_seconds=SECONDS)
    ((job, fence),) = made.end(1)
    for left in range(len(moods), 0, -1):
        assert len(server.moods) == left
        made.send()
    until("it is there", lambda: made.send() or made.backlog() == [], 30, made.backlog)
    names = {path.rpartition("/")[2] for _, path, _ in server.taken}
    assert names == {f"{job}.png", f"job-{job}-{fence:06d}.json"}


def test_a_bucket_without_its_keys_is_named(queue: Queue, tmp_path: Path) -> None:
    """The error names the key of the settings, before anything is sent."""
    with pytest.raises(ConfigurationError, match=r"hub\.targets\.it\.keys_file"):
        host(queue, tmp_path, "https://s3.example", keys={"token": "x"}).send()
    for wrong in ({"keys_file": ""}, {"secret_file": "x"}, {"url": "https://a.example/"}, {"url": "s3:///a"}):
        with pytest.raises(ValueError, match=r"hub\.targets\.it"):
            host(queue, tmp_path, "https://s3.example", **wrong)
    with pytest.raises(ValueError, match=r"hub\.targets\.it"):
        host(queue, tmp_path, "ftp://s3.example")
