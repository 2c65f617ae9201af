"""Names: on a host full of local name services, a worker's DNS queries go only through its tunnel."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from lab.net import Lab
from launcher import landlock
from tests.fleets import FREE, Rig, running
from tests.inside import PIPES, program
from tests.system.launching import ISP_RESOLVER, Puppet, Stage
from tests.waiting import until

SITE = "https://shop.example/"
SERVICES = (
    "/run/systemd/resolve/io.systemd.Resolve",
    "/run/nscd/socket",
    "/var/run/nscd/socket",
    "/run/avahi-daemon/socket",
    "/run/dbus/system_bus_socket",
)
ABSTRACT = "\0fleet-test-desktop"
REACH = """
import json, socket, sys
def reach(address):
    try: socket.socket(socket.AF_UNIX).connect(address)
    except OSError as error: return type(error).__name__
    return "reached"
print(json.dumps([reach(address) for address in json.loads(sys.argv[1])]))
"""


class Desktop:
    """The host's name services, and the queries that they got (see desktop.py)."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.folder = lab.places.root / "desktop"
        self.folder.mkdir()
        self.process = lab.popen("host", program(lab, "desktop", str(self.folder)), **PIPES)
        self.heard: list[tuple[str, str]] = []
        threading.Thread(target=self._hear, daemon=True).start()
        self._wait_for("ready", 1)
        self.prefix = ("nsenter", f"--target={self.process.pid}", "--mount", "--")

    def _hear(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            found = json.loads(line)
            self.heard.append((found["asked"], found["question"]))

    def _wait_for(self, word: str, times: int) -> None:
        until(word, lambda: [asked for asked, _ in self.heard].count(word) >= times, 20, lambda: self.heard)

    def rewrite(self, text: str) -> None:
        """Replace the host's resolv.conf, then change it in place."""
        assert self.process.stdin
        times = [asked for asked, _ in self.heard].count("rewritten")
        self.process.stdin.write(json.dumps(text) + "\n")
        self.process.stdin.flush()
        self._wait_for("rewritten", times + 1)

    def services_asked(self) -> set[str]:
        """The services that got a request from a user other than root."""
        return {asked for asked, _ in self.heard} - {"ready", "rewritten"}

    def knows(self, token: str) -> bool:
        """Whether a service was asked for TOKEN."""
        return any(token in question for _, question in self.heard)

    def free(self, *argv: str) -> str:
        """The output of ARGV under a UID of no worker, without the launcher."""
        words = ["setpriv", f"--reuid={FREE.uid}", f"--regid={FREE.uid}", "--clear-groups", "env", "HOME=/tmp", *argv]
        return self.lab.run("host", [*self.prefix, *words], timeout=60, cwd="/").stdout

    def end(self) -> None:
        self.process.kill()
        self.process.wait(10)
        self.folder.rmdir()


@pytest.fixture(scope="module")
def rig(lab: Lab, isolation: str) -> Iterator[Rig]:
    """netctl and one worker's device, in each isolation."""
    with running(lab, isolation=isolation) as made:
        yield made


@pytest.fixture
def desktop(rig: Rig) -> Iterator[Desktop]:
    """The host's name services, fresh for each test."""
    made = Desktop(rig.lab)
    yield made
    made.end()


@pytest.fixture
def puppet(rig: Rig, desktop: Desktop) -> Iterator[Puppet]:
    """A worker's browser on that host, with a tunnel."""
    made = Puppet(Stage(rig.lab, rig, desktop.prefix), "selenium")
    holder = rig.client()  # after the launch, which ends whatever the UID runs
    assert "ok" in holder.ask(do="connect")
    yield made
    made.end()
    holder.kill()


def asked_at(lab: Lab, host: str, token: str) -> bool:
    """Whether the resolver at HOST (`vpn`: any tunnel's) was asked for TOKEN."""
    paths = lab.places.root.glob(f"log/queries-{host}*.log")
    return any(token in path.read_text() for path in paths)


def ask_everyone(puppet: Puppet, mark: str) -> list[str]:
    """The worker's three programs each look up their own name."""
    names = {way: f"{mark}-{way.replace('_', '')}.example" for way in ("look_up", "getent")}
    for way, name in names.items():
        assert not puppet(way, name)
    chrome = f"{mark}-chrome.example"
    assert puppet("open", f"https://{chrome}/")["error"] == "PageFailed"
    return [*names.values(), chrome]


def test_every_name_is_asked_through_the_tunnel(rig: Rig, desktop: Desktop, puppet: Puppet) -> None:
    """Python, a C program and Chrome ask the tunnel's resolver; the host's services and the ISP's get no query."""
    names = ask_everyone(puppet, "worker")
    assert puppet("look_up", "shop.example") and puppet("getent", "shop.example")
    assert puppet("open", SITE) is None
    assert {name: asked_at(rig.lab, "vpn", name) for name in names} == dict.fromkeys(names, True)
    assert [name for name in names if asked_at(rig.lab, "isp", name) or desktop.knows(name)] == []
    assert desktop.services_asked() == set()


def test_the_same_askers_without_the_launcher(rig: Rig, desktop: Desktop) -> None:
    """The control: under another UID, on the same host, each of them asks the host's services."""
    desktop.free("/usr/bin/getent", "ahosts", "free-getent.example")
    desktop.free(sys.executable, "-Ic", "import socket; socket.getaddrinfo('free-python.example', 80)")
    chrome = str(Stage(rig.lab, rig).installed("selenium").browser)
    page = ["--headless=new", "--no-first-run", "--disable-gpu", "--user-data-dir=/tmp/fleet-test-names"]
    desktop.free("timeout", "30", chrome, *page, "--dump-dom", "https://free-chrome.example/")
    for way in ("getent", "python", "chrome"):
        assert desktop.knows(f"free-{way}"), way
    assert {"stub", "/run/nscd/socket"} <= desktop.services_asked()
    assert not asked_at(rig.lab, "vpn", "free-")


def test_no_service_of_the_host_can_be_reached(desktop: Desktop, puppet: Puppet) -> None:
    """A worker does not see the sockets of any libnss module's service; without the launcher they can be reached."""
    assert {address: puppet("reach", address) for address in SERVICES} == dict.fromkeys(SERVICES, "FileNotFoundError")
    control = json.loads(desktop.free(sys.executable, "-Ic", REACH, json.dumps(SERVICES)))
    assert control == ["reached"] * len(SERVICES)
    assert puppet("listing", "/run") == []
    assert "nscd" in desktop.free("ls", "/run").split()


def test_a_host_that_rewrites_its_files(rig: Rig, desktop: Desktop, puppet: Puppet) -> None:
    """resolv.conf is replaced and changed in place while pages load: no request is lost, no query goes elsewhere.

    The control: a program without the launcher asks the ISP's resolver at once.
    """
    loading = threading.Event()
    rewriter = threading.Thread(target=_rewrite_until, args=(desktop, loading.is_set))
    rewriter.start()
    for _ in range(3):
        assert puppet("open", SITE) is None
    counts = puppet("counts")
    names = ask_everyone(puppet, "rewritten")
    loading.set()
    rewriter.join(30)
    assert counts["requests"] > 30 and (counts["network_changed"], counts["other_losses"]) == (0, 0)
    desktop.free("/usr/bin/getent", "ahosts", "rewritten-free.example")
    assert asked_at(rig.lab, "isp", "rewritten-free")
    assert {name: asked_at(rig.lab, "vpn", name) for name in names} == dict.fromkeys(names, True)
    assert [name for name in names if asked_at(rig.lab, "isp", name) or desktop.knows(name)] == []


def _rewrite_until(desktop: Desktop, is_over: Callable[[], bool]) -> None:
    number = 0
    while not is_over():
        number += 1
        desktop.rewrite(f"# {number}\nnameserver {ISP_RESOLVER}\n")


def test_abstract_sockets_are_a_known_limit(rig: Rig, desktop: Desktop, puppet: Puppet) -> None:
    """They belong to a network namespace: from its own a worker reaches none, from the host's what Landlock allows."""
    scoped = landlock.abi() >= landlock.SCOPES_SINCE
    there = {"uid": "PermissionError" if scoped else "reached", "netns": "ConnectionRefusedError"}
    assert puppet("reach", ABSTRACT) == there[rig.fleet.isolation]
