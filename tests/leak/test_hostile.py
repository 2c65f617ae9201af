"""A hostile page in a worker's Chrome reaches no local target: with the fleet's policies, and by netctl alone.

By netctl alone means: without those policies, and with Chrome's own check of local network access switched off.
Listeners decide; each of them gets the same page's requests from a UID of no worker, by every way that a page has.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from urllib.parse import urlencode

import pytest

from fleet.launch_spec import POLICY_FOLDERS
from fleet.model import BrowserSettings
from lab import run
from lab.net import Lab
from lab.site.hostile import WAYS
from lab.topology import HOSTILE_PORTS, LAN_HOST, LAN_ROUTER, LAN_ROUTER_V6, METADATA
from tests.fleets import FREE
from tests.inside import Ear, server, speaking
from tests.leak.scene import Scene
from tests.leak.visit import WAITING, forget, visit
from tests.programs.sockets import place
from worker import prepare
from worker.browser.interface import Installed

NEAR, DEVTOOLS = HOSTILE_PORTS
LOOPBACK = ("127.0.0.1", "::1")
LAN = (str(LAN_ROUTER), str(METADATA), str(LAN_ROUTER_V6))
ON_HOST = [(host, NEAR) for host in (*LOOPBACK, str(LAN_HOST))]
NEIGHBOUR = [("127.0.0.1", DEVTOOLS)]
REBOUND = [(host, NEAR) for host in ("127.0.0.1", str(LAN_HOST), str(LAN_ROUTER), str(METADATA))]
"""What names are bound to behind Chrome's back; and so is the neighbour's DevTools."""
CHROME = (
    *("--headless=new", "--disable-gpu", "--no-first-run", "--disable-component-update", "--disable-popup-blocking"),
    # The page is on plain HTTP, so no rule about mixed content limits it.
    "--disable-features=HttpsUpgrades",
)
UNCHECKED = (*CHROME[:-1], f"{CHROME[-1]},LocalNetworkAccessChecks")
MORE_VISITS = 2
FREE_ADDRESSES = ("198.51.100.10", "2001:db8:1::10")


def rebound_names() -> dict[str, str]:
    """Names that first resolve to the shop, each with its address in later answers."""
    targets = [*REBOUND, ("127.0.0.1", DEVTOOLS)]
    word = secrets.token_hex(4)
    return {
        f"{int(IPv4Address(host)):08x}.{word}{port}.rebind.example:{port}": place(host, port) for host, port in targets
    }


def asked_again(scene: Scene, name: str) -> bool:
    """Whether NAME was looked up again after its first answer, and so was rebound to the other address."""
    asked = [line.split()[0] for line in scene.lab.places.queries("web").read_text().splitlines()]
    return asked.count(name.partition(":")[0]) > len(("A", "AAAA"))


def url(names: Sequence[str]) -> str:
    """The address of the page that tries all local targets."""
    targets = [place(host, port) for host, port in (*ON_HOST, ("localhost", NEAR), *((host, NEAR) for host in LAN))]
    targets += [place(host, port) for host, port in NEIGHBOUR]
    return "http://shop.example/hostile?" + urlencode(
        [("at", one) for one in targets] + [("rebind", one) for one in names]
    )


@contextlib.contextmanager
def near(lab: Lab, *neighbours: Sequence[str]) -> Iterator[Sequence[Ear]]:
    """Listeners on the host, on its LAN and at the metadata address, and last at the port of a neighbour's DevTools.

    There is one of the last for each of NEIGHBOURS, the words in front of its command line.
    """

    def argv(targets: Sequence[tuple[str, int]]) -> list[str]:
        return server(lab, *(("tell", *target) for target in targets))

    wanted = [("host", argv(ON_HOST)), ("isp", argv([(host, NEAR) for host in LAN]))]
    wanted += [("host", [*words, *argv(NEIGHBOUR)]) for words in neighbours]
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(speaking(lab, where, words, "ready")) for where, words in wanted]


def heard(ears: Sequence[Ear]) -> list[str]:
    """Everything that the listeners have received since the last call, from any sender."""
    return [line.rpartition(" ")[0] for ear in ears for line in ear.rest()]


@functools.cache
def installed() -> Installed:
    """The browser of this machine."""
    return prepare.find(BrowserSettings(), run.HOME_DIRECTORY)


def launched(scene: Scene, chrome: Sequence[str], *, policies: bool) -> list[str]:
    """The real launcher's command line for the worker's Chrome; without POLICIES it finds none in its /etc."""
    etc = prepare.etc_files(scene.fleet)
    files = {f"{folder}/fleet.json" for folder in POLICY_FOLDERS}
    assert files <= set(etc)
    kept = etc if policies else {name: text for name, text in etc.items() if name not in files}
    usual = prepare.launch_spec(scene.fleet, scene.paths, scene.worker(), installed(), kept)
    spec = usual._replace(argv=[*WAITING, str(installed().browser), *chrome])
    path = scene.paths.root / "hostile.json"
    path.write_text(spec.as_json())
    return [*run.program("launcher"), str(path)]


@pytest.mark.parametrize("policies", [True, False], ids=["policies", "netctl_alone"])
def test_a_hostile_page_reaches_nothing(scene: Scene, policies: bool) -> None:
    """HTTP, HTTPS, WebSocket, WebRTC, frames, forms, windows, rebound names: no local listener is reached."""
    names = rebound_names()
    chrome = [*(CHROME if policies else UNCHECKED), "--user-data-dir=/tmp/hostile", url(list(names))]
    argv = launched(scene, chrome, policies=policies)
    exits = [str(address) for server in scene.lab.topology.vpn for address in (server.address, server.address_v6)]
    neighbour = scene.inside(scene.worker(1), scene.as_worker(scene.worker(1)))
    # With a namespace of its own the neighbour has a loopback of its own; on the host's is another listener then.
    with near(scene.lab, *([[]] if scene.isolated else []), neighbour) as ears:
        scene.quiet()
        # The launcher ends everything under the worker's UID, so the tunnel's holder starts after it.
        said = visit(scene.lab, argv, exits, scene.connected)
        assert heard(ears) == []
        assert scene.capture.lines() == []
        _neighbours_own_is_heard(scene, ears[-1])
    assert said["/hostile/rebound"] == len(names)
    assert {name: asked_again(scene, name) for name in names} == dict.fromkeys(names, True)
    assert [path for path in said if "stolen" in path] == []


def _neighbours_own_is_heard(scene: Scene, ear: Ear) -> None:
    """The control for the one listener that only its owner may reach: a connection under the owner's UID."""
    other = scene.client_of(scene.worker(1))
    for host, port in NEIGHBOUR:
        assert "ok" in other.ask(do="tcp", host=host, port=port)
        assert ear.heard(1) == Counter([f"tcp {place(host, port)}"])
    other.kill()


@pytest.fixture
def bare(root: None) -> Iterator[Lab]:
    """A lab without a fleet, because netctl would keep strangers from a browser's ports."""
    made = Lab(f"b{os.getpid() % 10_000}", ipv6=True)
    made.up()
    yield made
    made.down()


def test_the_same_page_without_a_fleet_is_heard(bare: Lab) -> None:
    """Positive control: without a worker's layers all are reached by every way, and read by rebinding.

    The page gives up a way after five seconds, so on a busy machine further visits do what one did not finish.
    """
    missing = _unheard(bare)
    for _ in range(MORE_VISITS):
        if missing:
            missing &= _unheard(bare)
    assert missing == set()


def _unheard(bare: Lab) -> set[str]:
    """What one visit did not finish: the ways to each target, and names that were not read by rebinding."""
    folder, names = Path(tempfile.mkdtemp(dir="/tmp", prefix="hostile-")), rebound_names()
    os.chown(folder, FREE.uid, -1)
    free = ["env", f"HOME={folder}", "setpriv", f"--reuid={FREE.uid}", f"--regid={FREE.uid}", "--clear-groups"]
    argv = [*free, *WAITING, str(installed().browser), *UNCHECKED, f"--user-data-dir={folder}", url(list(names))]
    try:
        with near(bare, []) as ears:
            said = visit(bare, argv, FREE_ADDRESSES)
            came = set(heard(ears))
    finally:
        forget(bare)
        shutil.rmtree(folder)
    targets = [place(host, port) for host, port in (*ON_HOST, *((host, NEAR) for host in LAN), *NEIGHBOUR)]
    wanted = {f"{way} {target}" for way in ("tcp", "tls", *(f"/{way}" for way in WAYS)) for target in targets}
    unread = {f"stolen {target}" for name, target in names.items() if f"/hostile/stolen-{name}" not in said}
    return (wanted - came) | unread | (set() if any(what.startswith("udp") for what in came) else {"udp"})
