"""`fleet try` in a lab: one loop with its answer and a picture, and nothing of it is left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.net import Lab
from lab.topology import SITE_NAME
from tests.fleets import Host

FIRST_UID = 1285
PRICE = f"""
[task]
run = "watch"
[task.options]
pages = ["https://{SITE_NAME}/search?q=커피"]
seen_address = "#seen-address"
find = {{ name = "강릉 바다 커피 350g" }}
[task.options.items]
select = ".item"
fields = {{ name = ".name", price = {{ select = ".price", kind = "price" }} }}
"""


@pytest.fixture(scope="module")
def host(bare: Lab) -> Iterator[Host]:
    """The lab's host with settings and keys; no fleet is left running."""
    made = Host(bare, 1, first_uid=FIRST_UID)
    made.prepare()
    yield made
    assert made.operate("down").returncode == 0


def tried(host: Host, *words: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the answer of `fleet try`."""
    done = host.operate("try", *words, "--json")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_watch_that_is_tried(host: Host) -> None:
    """With or without a running fleet: typed prices through a proven exit, a picture, and no result in the spool."""
    file = host.paths.config.with_name("price.toml")
    file.write_text(PRICE, encoding="utf-8")
    for up in (False, True):
        if up:
            assert host.operate("up").returncode == 0
        before = spooled(host, "try-*")
        code, answer = tried(host, "--task", str(file))
        assert (code, answer["outcome"], answer["status"]) == (0, "good", 200), answer
        found = answer["answer"]["find"]
        assert found["found"] and found["item"]["price"]["currency"] == "KRW" and found["rank"] >= 1
        assert answer["seen_address"] == answer["exit_address"]
        assert Path(answer["picture"]).read_bytes().startswith(b"\x89PNG")
        Path(answer["picture"]).unlink()
        assert spooled(host, "try-*") == before == []


def test_a_page_that_is_not_there(host: Host) -> None:
    """The answer reports it, with exit code 1; an invalid selector gives 78 before anything starts."""
    code, answer = tried(host, f"https://{SITE_NAME}/no-such-page")
    assert (code, answer["outcome"], answer["status"]) == (1, "absent", 404)
    Path(answer["picture"]).unlink()
    file = host.paths.config.with_name("wrong.toml")
    file.write_text(PRICE.replace('".item"', '"//li"'), encoding="utf-8")
    done = host.operate("try", "--task", str(file))
    assert done.returncode == 78 and "XPath" in done.stderr


def test_an_exit_that_is_asked_for(host: Host) -> None:
    """Every loop uses that server; an unknown name is an error that lists the known ones, before anything starts."""
    servers = [server.address for server in host.lab.topology.vpn]
    for server in servers[1:]:
        code, answer = tried(host, f"https://{SITE_NAME}/ip", "--exit", str(server))
        assert (code, answer["exit_server"]) == (0, str(server)), json.dumps(answer)
        Path(answer["picture"]).unlink()
    done = host.operate("try", "--exit", "nowhere")
    assert done.returncode == 64 and str(servers[0]) in done.stderr


def spooled(host: Host, pattern: str) -> list[Path]:
    """The files in the worker's spool that match PATTERN."""
    return sorted(host.paths.spool(host.worker()).glob(pattern))
