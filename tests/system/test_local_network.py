"""A page in a worker's Chrome sends no request to a service of the host: the policies alone, without netctl.

Chrome checks an address only after it has connected, so an empty connection may arrive. That none arrives at all is
netctl's promise.
"""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from pydantic import JsonValue

from fleet.launch_spec import POLICY_FOLDERS
from lab.net import Lab
from tests.system.launching import Puppet, Stage
from tests.waiting import until
from worker import prepare, seccomp
from worker.browser import switches

SITE = "https://shop.example/"
PUBLIC = [ipaddress.ip_network("2001:db8::/32")]
"""The site's IPv6 addresses: set aside for documentation, so that Chrome takes their pages for local ones."""
TARGETS = {"loopback": ("127.0.0.1", 8001), "lan": ("192.168.77.10", 8002), "metadata": ("169.254.169.254", 8003)}
LISTENER = """
import json, socket, sys, threading
def hear(name, address):
    server = socket.create_server(tuple(address))
    print(json.dumps("ready"), flush=True)
    while True:
        connection, _ = server.accept()
        connection.settimeout(5)
        try:
            asked = bool(connection.recv(4096))
            connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\nhi")
        except OSError:
            asked = False
        connection.close()
        print(json.dumps(name if asked else f"{name}, no word"), flush=True)
for name, address in json.loads(sys.argv[1]).items():
    threading.Thread(target=hear, args=(name, address)).start()
"""
ATTACK = """
const [host, port] = %s, ended = [], url = scheme => `${scheme}://${host}:${port}/`;
const wait = make => ended.push(new Promise(done => { make(done); setTimeout(done, 3000); }));
const element = (name, source) => wait(done => {
    const made = document.createElement(name);
    made.onload = made.onerror = done;
    made.src = source;
    document.body.append(made);
});
wait(done => fetch(url("http"), {mode: "no-cors"}).then(done, done));
wait(done => fetch(url("http"), {mode: "no-cors", targetAddressSpace: %s}).then(done, done));
wait(done => { const made = new WebSocket(url("ws")); made.onopen = made.onerror = done; });
for (const name of ["img", "script", "iframe"]) element(name, url("http"));
return Promise.all(ended).then(() => ended.length);
"""
CANDIDATES = """
const peer = new RTCPeerConnection({iceServers: [{urls: "stun:203.0.113.80:3478"}]}), found = [];
peer.createDataChannel("x");
return new Promise(done => {
    peer.onicecandidate = event => event.candidate ? found.push(event.candidate.candidate) : done(found);
    peer.createOffer().then(offer => peer.setLocalDescription(offer));
    setTimeout(() => done(found), 5000);
});
"""


class Listeners:
    """Services on the host's own addresses, which report requests."""

    def __init__(self, lab: Lab) -> None:
        for address, _ in list(TARGETS.values())[1:]:
            lab.run("host", ["ip", "address", "replace", f"{address}/32", "dev", "lo"], check=True)
        argv = [sys.executable, "-Ic", LISTENER, json.dumps(TARGETS)]
        self.process = lab.popen("host", argv, stdout=subprocess.PIPE)
        self.seen: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()
        until("listening", lambda: self.seen.count("ready") == len(TARGETS), 20)

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.seen.append(json.loads(line))

    def visitors(self) -> set[str]:
        """Which of the targets have been sent a request."""
        return set(self.seen) & set(TARGETS)

    def end(self, lab: Lab) -> None:
        self.process.kill()
        self.process.wait(10)
        for address, _ in list(TARGETS.values())[1:]:
            lab.run("host", ["ip", "address", "del", f"{address}/32", "dev", "lo"], check=True)


@pytest.fixture
def listeners(lab: Lab) -> Iterator[Listeners]:
    """The services, ended afterwards."""
    made = Listeners(lab)
    yield made
    made.end(lab)


def policies_of(stage: Stage) -> dict[str, JsonValue]:
    """A worker's policies, unchanged."""
    return switches.policies(stage.fleet.browser.certificate_authorities, PUBLIC)


def under(stage: Stage, policies: dict[str, JsonValue]) -> Puppet:
    """A browser under POLICIES; the worker may list its own addresses."""
    files = {f"{folder}/fleet.json": json.dumps(policies) for folder in POLICY_FOLDERS}
    return Puppet(
        stage, "selenium", etc={**prepare.etc_files(stage.fleet), **files}, denied_calls=seccomp.compiled(netlink=True)
    )


def attack(puppet: Puppet) -> None:
    """Everything a page may try against each of the targets, then a tab of its own."""
    assert puppet("open", SITE) is None
    for name, address in TARGETS.items():
        space = json.dumps("loopback" if name == "loopback" else "local")
        assert puppet("_script", ATTACK % (json.dumps(address), space)) == 6
    for name in ("loopback", "metadata"):
        host, port = TARGETS[name]
        puppet("open", f"http://{host}:{port}/")


def test_a_page_reaches_no_service_of_the_host(lab: Lab, listeners: Listeners) -> None:
    """fetch, WebSocket, images, scripts, frames and tabs to loopback, LAN and metadata addresses: no request arrives.

    WebRTC has no candidate either, although the worker may list its addresses.
    """
    stage = Stage(lab)
    puppet = under(stage, policies_of(stage))
    attack(puppet)
    assert puppet("open", "http://127.0.0.1:8001/")["error"] == "PageFailed"
    assert puppet("open", SITE) is None
    assert puppet("_script", CANDIDATES) == []
    puppet.end()
    assert listeners.visitors() == set()


def test_the_same_page_without_those_policies(lab: Lab, listeners: Listeners) -> None:
    """The control: with Local Network Access allowed and no list of addresses, the page reaches all of them.

    Without the WebRTC policy the page gets a candidate.
    """
    stage = Stage(lab)
    closed = ("BlockedForUrls", "URLBlocklist", "WebRtcIPHandling")
    changed = {name: value for name, value in policies_of(stage).items() if not name.endswith(closed)}
    changed |= {f"{what}AllowedForUrls": ["*"] for what in ("LocalNetworkAccess", "LocalNetwork", "LoopbackNetwork")}
    puppet = under(stage, {**changed, "WebRtcLocalIpsAllowedUrls": ["*"]})
    attack(puppet)
    assert puppet("open", SITE) is None
    assert puppet("_script", CANDIDATES)
    puppet.end()
    assert until("all asked", lambda: listeners.visitors() == set(TARGETS), show=lambda: listeners.seen)
