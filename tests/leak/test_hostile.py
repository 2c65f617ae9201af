"""A hostile page in a worker's Chrome reaches nothing that is near, whatever Chrome itself would hold back.

Chrome's own check of local network access is switched off here: what is shown is that the layers below hold.
Judges are listeners; the same page of a UID that is no worker's is heard.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from lab import run
from lab.topology import ISP_RESOLVER, LAN_HOST, LAN_ROUTER, LAN_ROUTER_V6, METADATA
from tests.faults.capture import FREE
from tests.leak.probes import NEAR
from tests.leak.scene import Scene
from tests.netns.ear import Ear, speaking
from tests.netns.test_netctl_reach import LISTEN
from tests.waiting import until
from worker import prepare

LAN = (str(LAN_ROUTER), str(METADATA), str(LAN_ROUTER_V6))
ADDRESSES = ("127.0.0.1", "localhost", "[::1]", str(LAN_HOST), str(LAN_ROUTER), str(METADATA), f"[{LAN_ROUTER_V6}]")
CHROME = (
    *("--headless=new", "--disable-gpu", "--no-first-run", "--disable-component-update"),
    # The page is on plain HTTP, so that no rule about mixed content holds it back.
    "--disable-features=LocalNetworkAccessChecks,HttpsUpgrades",
)
_ASK = (
    "import sys, dns.resolver as r; s = r.Resolver(configure=False); s.nameservers = sys.argv[1:2]; "
    "print(s.resolve(sys.argv[2], 'A')[0])"
)


def rebound(scene: Scene) -> str:
    """A name that has just been bound to the host's loopback: the shop's address was its first answer."""
    name = f"7f000001.{secrets.token_hex(4)}.rebind.example"
    asked = ["-c", _ASK, str(ISP_RESOLVER), name]
    done = scene.lab.run("host", [str(scene.rig.python), *asked], check=True)
    assert done.stdout == "203.0.113.80\n"
    return name


def url(scene: Scene) -> str:
    """The page, which tries everything near."""
    hosts = (*ADDRESSES, rebound(scene))
    return "http://shop.example/hostile?" + urlencode([("at", f"{host}:{NEAR}") for host in hosts])


def reports(scene: Scene) -> Counter[str]:
    """What pages have said so far, by address and path."""
    lines = map(json.loads, scene.lab.places.access_log.read_text().splitlines())
    return Counter(f"{line['address']} {line['path']}" for line in lines)


@contextlib.contextmanager
def lan(scene: Scene) -> Iterator[Ear]:
    """Listeners on the LAN and at the metadata address."""
    argv = ["/usr/bin/python3", "-I", "-c", LISTEN, json.dumps([(host, NEAR) for host in LAN])]
    with speaking(scene.lab, "isp", argv, "listening") as ear:
        yield ear


_WAIT = 'import os, sys; print("ready", flush=True); sys.stdin.readline(); os.execv(sys.argv[1], sys.argv[1:])'
WAITING = ("/usr/bin/python3", "-I", "-c", _WAIT)


PIPES: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "start_new_session": True}


def group(leader: int) -> bool:
    """Whether any process of that group is there."""
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True


def visit(scene: Scene, argv: Sequence[str], seen: Sequence[str], then: Callable[[], object] = lambda: None) -> None:
    """Run Chrome until the page says, from one of the addresses SEEN, that it has tried everything; then end it.

    ARGV is a program that says `ready` and becomes Chrome when it reads a line, behind THEN.
    """
    before = reports(scene)

    def done() -> bool:
        now = reports(scene) - before
        return any(now[f"{address} /hostile/done"] for address in seen)

    with scene.lab.popen("host", argv, **PIPES, cwd="/") as chrome:
        try:
            assert chrome.stdin
            assert chrome.stdout
            assert chrome.stdout.readline() == "ready\n"
            then()
            chrome.stdin.write("\n")
            chrome.stdin.flush()
            until("the page has tried everything", done, 40, lambda: reports(scene) - before)
        finally:
            os.killpg(chrome.pid, signal.SIGKILL)
            chrome.wait(10)
            until("all of Chrome has ended", lambda: not group(chrome.pid), 20)


def forget(scene: Scene) -> None:
    """End what the shop holds of connections: their ends, a minute later, would be seen as somebody's late packets."""

    def none() -> bool:
        scene.lab.run("web", ["ss", "-K", "-tn", "sport", "=", ":80"], check=True)
        return not scene.lab.run("web", ["ss", "-Htn", "sport", "=", ":80"], check=True).stdout

    until("the shop has no connection", none, 20)


def test_a_hostile_page_reaches_nothing(scene: Scene) -> None:
    """fetch, WebSocket, WebRTC, images, scripts, frames, forms, rebound names: no listener near is reached."""
    rig, worker = scene.rig, scene.worker
    installed = prepare.find(rig.fleet.browser, run.HOME_DIRECTORY)
    document = prepare.launch_spec(rig.fleet, rig.paths, worker, installed, prepare.etc_files(rig.fleet))
    document["argv"] = [*WAITING, str(installed.browser), *CHROME, "--user-data-dir=/tmp/hostile", url(scene)]
    spec = rig.paths.root / "hostile.json"
    spec.write_text(json.dumps(document))
    exits = [str(address) for server in scene.lab.topology.vpn for address in (server.address, server.address_v6)]
    with lan(scene) as ear:
        scene.quiet()
        # The launcher ends whatever runs under the worker's UID: the tunnel's holder comes behind it.
        visit(scene, [*run.program("worker.launch"), str(spec)], exits, scene.connected)
        assert scene.heard() == []
        assert ear.rest() == []
        assert scene.capture.lines() == []


def test_the_same_page_of_another_uid_is_heard(scene: Scene) -> None:
    """Positive control: without the layers of a worker every listener is reached, by TCP and by WebRTC's UDP."""
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="hostile-"))
    os.chown(folder, FREE.uid, -1)
    installed = prepare.find(scene.rig.fleet.browser, run.HOME_DIRECTORY)
    argv = [*WAITING, str(installed.browser), *CHROME, f"--user-data-dir={folder}", url(scene)]
    argv = ["env", f"HOME={folder}", *scene.rig.as_worker(FREE, *argv)]
    try:
        with lan(scene) as ear:
            visit(scene, argv, ["198.51.100.10", "2001:db8:1::10"])
            heard = Counter(scene.heard()) + Counter(ear.rest())
    finally:
        forget(scene)
        shutil.rmtree(folder)
    for host in ("127.0.0.1", "::1", str(LAN_HOST), *LAN):
        assert heard[f"tcp {host}"], (host, heard)
    assert any(what.startswith("udp") for what in heard), heard
