"""The browser's contract, the same for both drivers, with real Chromium under a worker's account."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lab.net import Lab
from tests.system.launching import Puppet, Stage, puppets
from tests.waiting import until
from worker import seccomp
from worker.browser import switches

DRIVERS = ("undetected", "selenium")
SITE = "https://shop.example/"


@pytest.fixture(scope="module")
def stage(lab: Lab) -> Stage:
    """The worker's account and folders in the lab's host."""
    return Stage(lab)


@pytest.fixture(scope="module", params=DRIVERS)
def puppet(request: pytest.FixtureRequest, stage: Stage) -> Iterator[Puppet]:
    """One browser session for the tests that do not damage it."""
    yield from puppets(stage, request.param)


def test_chrome_sandbox_is_on(puppet: Puppet) -> None:
    """Chrome's own sandbox works under the seccomp filter and the ordinary UID."""
    puppet("open", "chrome://sandbox")
    assert puppet("texts", "#evaluation") == ["You are adequately sandboxed."]


def test_chrome_opens_no_page_of_its_own(puppet: Puppet) -> None:
    """There is only one tab: no suggestion list below the address bar, which would cost more than a short page."""
    puppet("restart")
    assert puppet("targets") == ["about:blank"]


def test_chrome_says_when_its_sandbox_is_off(stage: Stage) -> None:
    """The control: started without its sandbox, the same page of Chrome reports that."""
    off = {"sandbox": False, "i_know_what_no_sandbox_means": True}
    puppet = Puppet(stage, "selenium", settings=off)
    puppet("open", "chrome://sandbox")
    assert puppet("texts", "#evaluation") == ["You are NOT adequately sandboxed."]
    puppet.end()


def test_page_over_https_with_own_authority(puppet: Puppet) -> None:
    """A page of the lab's authority loads, counts as one, and every request of it is counted."""
    before = puppet("counts")
    assert puppet("open", SITE) is None
    after = puppet("counts")
    assert after["pages"] == before["pages"] + 1
    assert after["requests"] >= before["requests"] + 30
    assert (after["network_changed"], after["other_losses"]) == (before["network_changed"], before["other_losses"])


def test_counts_are_what_the_site_saw(puppet: Puppet, stage: Stage) -> None:
    """With an empty cache the browser counts exactly the requests that the site's own log has."""
    puppet("restart")
    log = stage.lab.places.access_log
    before = log.read_text().count("\n")
    puppet("open", SITE)
    counted = puppet("counts")["requests"]
    assert counted == log.read_text().count("\n") - before > 30


def test_page_speaks_http2(puppet: Puppet) -> None:
    """The site's pages come over HTTP/2; over HTTP/1.1 address events would do little harm."""
    puppet("open", SITE)
    script = "return performance.getEntriesByType('navigation')[0].nextHopProtocol"
    assert puppet("_script", script) == "h2"


def test_search(puppet: Puppet) -> None:
    """A query typed into the box and sent brings a second page with its items."""
    puppet("open", SITE)
    pages = puppet("counts")["pages"]
    assert puppet("fill", "#q", "커피", submit=True) is None
    assert puppet("wait", ".item", seconds=10) > 0
    assert puppet("wait_loaded", seconds=10) is None
    assert puppet("counts")["pages"] == pages + 1
    assert any("커피" in text for text in puppet("texts", ".item"))


def test_screenshot_is_png(puppet: Puppet) -> None:
    """The screenshot is a PNG of some size."""
    puppet("open", SITE)
    png = bytes.fromhex(puppet("screenshot"))
    assert png.startswith(b"\x89PNG") and len(png) > 10_000


def test_missing_element(puppet: Puppet) -> None:
    """An element that is missing after the given time raises ElementMissing, which names the selector."""
    puppet("open", SITE)
    answer = puppet("wait", ".no-such-thing", seconds=0.2)
    assert answer["error"] == "ElementMissing" and ".no-such-thing" in answer["message"]


def test_network_changed_page_is_an_error_and_counted(puppet: Puppet) -> None:
    """ERR_NETWORK_CHANGED, for which the driver raises nothing, is a failed page and one loss."""
    before = puppet("counts")["network_changed"]
    answer = puppet("open", "chrome://network-error/-21")
    assert answer["error"] == "PageFailed" and "ERR_NETWORK_CHANGED" in answer["message"]
    assert puppet("counts")["network_changed"] == before + 1


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("chrome://network-error/-105", "ERR_NAME_NOT_RESOLVED"),
        ("chrome://network-error/-7", "ERR_TIMED_OUT"),
        ("chrome://network-error/-324", "ERR_EMPTY_RESPONSE"),
        ("https://shop.example:444/", "ERR_CONNECTION_REFUSED"),
    ],
)
def test_error_pages_are_errors(puppet: Puppet, url: str, code: str) -> None:
    """Chrome's own error pages never count as loaded pages, also for codes for which the driver raises nothing."""
    answer = puppet("open", url)
    assert answer["error"] == "PageFailed" and code in answer["message"]


def test_language(puppet: Puppet) -> None:
    """Pages are asked for in the language of the settings."""
    puppet("open", SITE)
    assert puppet("_script", "return navigator.language") == "ko-KR"


POLICY_ROWS = """
const below = node => [...(node.shadowRoot ? [node.shadowRoot] : []), ...node.children];
const inside = node => [node, ...below(node).flatMap(inside)];
const rows = inside(document.body).filter(node => node.localName === 'policy-row').map(node => node.shadowRoot);
const text = (row, kind) => row.querySelector(kind).textContent.trim();
return rows.map(row => [text(row, '.policy.row .name'), text(row, '.policy.row .messages')]);
"""


def test_policies_are_the_workers_own(puppet: Puppet) -> None:
    """Chrome knows every policy of the worker's private /etc and has no error in any; the host has no such file."""
    puppet("open", "chrome://policy")
    assert puppet("wait", "policy-app, policy-table", seconds=10)
    found = until("rows", lambda: dict(puppet("_script", POLICY_ROWS)))
    wanted = set(switches.policies([]))
    # Deprecated ones are set on purpose: an older Chrome, which a host may have, does not know their successors.
    assert [name for name in sorted(wanted) if found.get(name) not in ("OK", "Deprecated")] == []
    assert not Path("/etc/chromium/policies/managed/fleet.json").exists()


def test_restarts_leak_nothing(puppet: Puppet) -> None:
    """After several browsers in one worker: no additional process, open file or thread, and one folder in /tmp."""
    puppet("restart")
    files, threads, processes = puppet("open_files"), puppet("threads"), puppet("processes")
    for _ in range(3):
        puppet("restart")
    assert puppet("open_files") <= files and puppet("threads") <= threads
    assert abs(puppet("processes") - processes) <= 3  # Chrome's utility processes come and go
    assert len(puppet("tmp")) == 1


@pytest.mark.parametrize("driver", DRIVERS)
def test_kill_of_the_worker_leaves_nothing(stage: Stage, driver: str) -> None:
    """SIGKILL of the worker: in two seconds no process of the UID is left, and its /tmp with the profile is gone."""
    puppet = Puppet(stage, driver)
    puppet("open", SITE)
    private = Path(f"/proc/{min(process.pid for process in stage.processes())}/ns/mnt")
    number = str(private.readlink())
    # Held open, because the kernel may reuse the number of a namespace that is gone.
    with private.open("rb"):
        assert len(stage.processes()) > 5
        puppet.kill()
        assert not stage.wait_for_none(2)
        assert number not in {_mounts(process) for process in psutil.process_iter()}


def _mounts(process: psutil.Process) -> str:
    try:
        return str(Path(f"/proc/{process.pid}/ns/mnt").readlink())
    except OSError:
        return ""


@pytest.mark.parametrize("driver", DRIVERS)
def test_frozen_browser_is_ended(stage: Stage, driver: str) -> None:
    """close() kills a stopped browser (SIGSTOP) long before its time-outs."""
    puppet = Puppet(stage, driver)
    for process in stage.processes():
        if "chromium" in process.name():
            process.suspend()
    puppet.end()
    assert not stage.wait_for_none(2)


def test_frozen_browser_is_noticed_by_every_command(stage: Stage) -> None:
    """A command to a stopped browser (SIGSTOP) raises BrowserDied long before its own time-out."""
    puppet = Puppet(stage, "selenium")
    assert puppet("open", SITE) is None and puppet("wait", "#q", seconds=60) == 1  # as long as it is not
    puppet("wait_for_answers", 1.5)  # of the usual 12
    for process in stage.processes():
        if "chromium" in process.name():
            process.suspend()
    started = time.monotonic()
    long = {"seconds": 60}
    commands: list[tuple[str, list[str], dict[str, int]]] = [
        ("open", [f"{SITE}search?q=a"], {}),
        ("wait", [".none"], long),
        ("fill", ["#q", "a" * 40], long),
        ("press", ["Enter"], {}),
        ("screenshot", [], {}),
    ]
    for method, arguments, keywords in commands:
        assert puppet(method, *arguments, **keywords)["error"] == "BrowserDied", method
    assert time.monotonic() - started < 60
    puppet.end()


@pytest.mark.parametrize(
    ("driver", "victim"), [("undetected", "chromium"), ("selenium", "chromium"), ("selenium", "chromedriver")]
)
def test_dead_browser_is_named(stage: Stage, driver: str, victim: str) -> None:
    """After Chrome or its driver is killed, the next command raises BrowserDied, not an error of a library."""
    puppet = Puppet(stage, driver)
    for process in stage.processes():
        if process.name() == victim:
            process.kill()
    assert puppet("open", SITE)["error"] == "BrowserDied"
    puppet.end()


@pytest.mark.parametrize("driver", DRIVERS)
def test_browser_that_cannot_start(stage: Stage, driver: str) -> None:
    """A browser that ends at once gives BrowserStartFailed within seconds, with its last output; nothing is left."""
    program = stage.scripts / "broken"
    program.write_text("#!/bin/sh\necho no display for you >&2\nexit 1\n")
    program.chmod(0o755)
    spec = json.loads(stage.spec(["/bin/true"], driver=driver).read_text())
    puppet = Puppet(stage, driver, environment={**spec["environment"], "FLEET_BROWSER": str(program)})
    assert puppet.started["error"] == "BrowserStartFailed"
    assert "no display for you" in puppet.started["message"]
    assert puppet.started["left"] == 0
    puppet.process.wait(10)


@pytest.mark.parametrize("driver", DRIVERS)
def test_messages_never_block_chrome(stage: Stage, driver: str) -> None:
    """A megabyte of messages on the browser's standard error, which the drivers never read, freezes nothing."""
    puppet = Puppet(stage, driver)
    # Its pid inside its PID namespace is the last number of NSpid (proc_pid_status(5)).
    inside = f"\t{puppet('_browser_pid')}\n"
    (found,) = [one for one in stage.processes() if inside in re.findall("NSpid:.*(\t.*\n)", _status(one))]
    browser = Path(f"/proc/{found.pid}/fd/2")
    subprocess.run(["head", "-c", "1000000", "/dev/zero"], stdout=browser.open("wb"), check=True, timeout=10)
    assert puppet("open", SITE) is None
    puppet.end()


def _status(process: psutil.Process) -> str:
    return Path(f"/proc/{process.pid}/status").read_text()


def test_patched_driver(stage: Stage) -> None:
    """The single driver copy belongs to root, is readable by all, and is patched as undetected-chromedriver expects."""
    copy = stage.installed("undetected").driver
    found = copy.stat()
    assert (found.st_uid, found.st_mode & 0o7777) == (0, 0o755)
    content = copy.read_bytes()
    assert b"undetected chromedriver" in content and b"{window.cdc" not in content


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("deny", [True, False], ids=["netlink-denied", "netlink-allowed"])
def test_address_events(stage: Stage, driver: str, deny: bool) -> None:
    """While a neighbour changes addresses, a browser without netlink loses nothing; one with netlink does."""
    puppet = Puppet(stage, driver, denied_calls=seccomp.compiled(netlink=not deny))
    churn = (
        "import itertools, subprocess, sys, threading\n"
        "stop = threading.Event()\n"
        "threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()\n"
        "for word in itertools.cycle(('add', 'del')):\n"
        "    subprocess.run(['ip', 'address', word, '192.0.2.77/32', 'dev', 'lo'], check=True)\n"
        "    if word == 'del' and stop.wait(0.15): break\n"
    )
    with stage.lab.popen("host", [stage.launcher[0], "-Ic", churn], stdin=subprocess.PIPE) as neighbour:
        for _ in range(4):
            puppet("open", SITE)
        lost = puppet("counts")["network_changed"]
        assert neighbour.stdin is not None
        neighbour.stdin.close()
    puppet.end()
    assert (lost == 0) if deny else (lost > 0)
