"""The browser is replaced while the fleet works: loops in progress stay right, and the next loop has the new one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

import pytest

from fleet.result import Result
from tests.host import browsers
from tests.host.installed import Installed
from tests.waiting import until

REPLACED = "is being replaced"
BROWSER = "/usr/lib/chromium/chromium"


@pytest.fixture
def fleet(host: Installed) -> Iterator[Installed]:
    """A running fleet in isolation uid, where more could leave; every worker has handed in a loop."""
    host.run("systemctl stop fleet", check=True)
    host.configure({"": {"isolation": "uid"}, "loop": {"pause_seconds": 1}})
    host.run("systemctl start fleet", check=True)
    host.wait_for_loops()
    host.began = datetime.now(timezone.utc)
    yield host
    host.run("systemctl stop fleet", check=True)
    host.configure()


def log(fleet: Installed) -> str:
    """The log of the first worker."""
    return (fleet.machine.root / f"var/log/fleet/{fleet.workers[0].name}.log").read_text()


def since(fleet: Installed) -> list[Result]:
    """Every loop that began since the fleet is observed."""
    return [one for worker in fleet.workers for one in fleet.results(worker) if one.started > fleet.began]


@pytest.mark.whole_host
def test_the_doctor_names_who_runs_the_one_before(fleet: Installed) -> None:
    """Until their loops end; the next loops use the new one and are good, and the doctor's finding is gone."""
    running = f'for one in /proc/[0-9]*; do [ "$(readlink $one/exe)" = {BROWSER} ] && echo ${{one#/proc/}}; done'
    hold = f"kill -STOP $({running}); "  # until its worker ends it, for the doctor takes longer than some loops
    replace = "; ".join(f"cp -a {name} {name}.new && mv {name}.new {name}" for name in (BROWSER, "/usr/bin/chromium"))

    def told() -> bool:
        until("a browser runs", lambda: fleet.run(running).stdout, 60)
        fleet.run(hold + replace, check=True)
        verdict, seen = fleet.doctor()["browser"]
        return verdict == "ok" and "run the previous one" in seen

    until("the doctor names a worker", told, 90, lambda: fleet.doctor()["browser"])
    fleet.wait_for_loops()
    assert "browser.updated" in log(fleet) and all(one.ok for one in since(fleet)), since(fleet)
    assert "the previous one" not in fleet.doctor()["browser"][1]


@pytest.mark.whole_host
def test_another_release(fleet: Installed) -> None:
    """To another Debian release, and back: while packages of both are installed, workers wait, and the doctor says why.

    Then loops are good with the new one and its driver. No loop is lost, and nothing leaves.
    """
    releases = browsers.kept()
    if len(releases) < 2:
        print(f"ONLY ONE RELEASE of Chromium can be had, which is installed again: {', '.join(releases)}")
    first, *others = releases
    with fleet.probed(fleet.workers[0].uid) as ear:
        for version in (*others, first):
            debs = {one.name.partition("_")[0]: str(one) for one in releases[version]}
            if others:
                fleet.run(f"dpkg --unpack --force-all {debs['chromium-common']}", check=True)
                waits_amid_it(fleet)
            fleet.run(f"dpkg --install --force-all {' '.join(debs.values())}", check=True)
            fleet.wait_for_loops()
            verdict, seen = fleet.doctor()["browser"]
            assert verdict == "ok" and version.partition("-")[0] in seen and "fits" in seen, (version, seen)
            print(f"{version}: {len(since(fleet))} loops since the fleet is looked at")
        assert not fleet.escaped(ear)
    assert all(one.ok for one in since(fleet)), [one for one in since(fleet) if not one.ok]
    failures = {(one.name, one.message.partition("\n")[0]) for result in since(fleet) for one in result.failures}
    print(*sorted(failures), sep="\n")
    assert all(name == "BrowserStartFailed" or REPLACED in words for name, words in failures), failures


def waits_amid_it(fleet: Installed) -> None:
    """With packages of two releases, the worker fails to start a browser, logs why, and waits; the doctor agrees."""
    before = log(fleet).count(REPLACED)
    until("the worker says why it waits", lambda: log(fleet).count(REPLACED) > before, 60, lambda: log(fleet)[-2000:])
    verdict, seen = fleet.doctor()["browser"]
    assert verdict == "error" and REPLACED in seen and "chromium-common" in seen, seen
