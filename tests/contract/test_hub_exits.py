"""Which exits a hub takes jobs for: it asks netctl, in whose place a real key store answers here."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fleet import snapshot
from fleet.model import Fleet, Paths
from fleet.programs import Installation
from fleet.snapshot import Snapshot
from fleet.sockets.netctl_api import ServerKeys, Servers
from hub.exits import Exits, exits_of
from tests.hub_pages import told
from tests.hubs import FLEET

HERE = {"kr-1.vpn.example", "KR", "jp-1.vpn.example", "JP", "de-1.vpn.example", "DE"}
ONE = {"server": "a", "region": None, "keys": 1, "leased": 0, "free": 1, "cooling": 0, "aside": 0, "retired": 0}
ONE |= {"aside_until": None, "why": None, "last_good": None}


def fleet(**hub: Any) -> Fleet:
    """Settings with a shared queue, or with the settings HUB."""
    return Fleet.model_validate({**FLEET.model_dump(), "hub": {"jobs": "first", **hub}})


@pytest.mark.parametrize(("database", "known"), [("postgresql://u@db.example/fleet", HERE), ("", None)])
def test_a_shared_queue_is_asked_for_own_exits(tmp_path: Path, database: str, known: set[str] | None) -> None:
    """The exits of its keys, by server and region; on its own queue a host takes all jobs."""
    paths = Paths(root=tmp_path)
    with told(paths, ""):
        found = asyncio.run(Exits(fleet(database=database), paths).known())
        assert found == (None if known is None else frozenset(known))


def test_without_netctls_word_all_are_taken(tmp_path: Path) -> None:
    """Before netctl's first answer all jobs are taken, and its last answer stays valid while it is away."""
    paths = Paths(root=tmp_path)
    paths.netctl_socket.parent.mkdir(parents=True)
    assert asyncio.run(Exits(fleet(database="postgresql://u@db.example/fleet"), paths).known()) is None


def test_what_is_retired_is_no_exit() -> None:
    """A server with only retired keys does not count; if netctl could not list all servers, nothing is left out."""
    usable, retired = ServerKeys.model_validate(ONE), ServerKeys.model_validate({**ONE, "server": "b", "retired": 1})
    assert exits_of(Servers(servers=(usable, retired), more=0)) == frozenset({"a"})
    assert exits_of(Servers(servers=(usable, retired), more=1)) is None


def test_an_exit_that_is_nowhere_is_named(tmp_path: Path) -> None:
    """`fleet job add` accepts such a job with a warning; for exits of existing keys there is none (control)."""
    paths = Paths(root=tmp_path)
    installation = Installation(paths=paths)
    paths.snapshot.parent.mkdir(parents=True)
    snapshot.write(Snapshot(release=installation.release, fleet=fleet()), paths)

    def hub(*words: str) -> subprocess.CompletedProcess[str]:
        argv = installation.module("hub", *words)
        return subprocess.run(argv, env=installation.environment, capture_output=True, text=True, check=True)

    hub("db", "upgrade")
    with told(paths, ""):
        add = ("job", "add", "--site", "a.example", "--task", "visit", 'urls:=["https://a.example/"]', "--json")
        done = hub(*add, "--exits", "KR,US,de-1.vpn.example")
        assert len(json.loads(done.stdout)) == 3
        assert "has the exit US" in done.stderr and "KR" not in done.stderr and "de-1" not in done.stderr
        assert "comes out" not in hub(*add).stderr
