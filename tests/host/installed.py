"""A fleet on the machine, as an operator installs it and systemd runs it, and its observation."""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from fleet.model import Worker
from fleet.result import Result
from fleet.spool import read_spool
from lab import run
from lab.topology import ECHO_NAME, SITE_NAME, STUN_PORT, WEB_ADDRESS
from tests.host.machine import UPLINK, Machine
from tests.host.world import Access
from tests.inside import Ear, capturing
from tests.waiting import until

FIRST_UID = 1301
STRANGER = 65534
PROBED, MARKED = 9999, 9998
LOOP_SECONDS = 120
USUAL: run.Changes = {"loop": {"pause_seconds": 4}}
PROBER = f"""
while :; do
    setpriv --reuid $1 --regid $1 --clear-groups python3 -Ic '
import socket, time
while True:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        try:
            made.sendto(bytes(8), ("{WEB_ADDRESS}", {PROBED}))
        except OSError:
            pass
    print(end="tries ", flush=True)
    time.sleep(0.01)
'
    sleep 0.05
done
"""
"""Tries to get out, a hundred times a second; it is started again when a sweep of its UID ends it."""
MARK = f"""setpriv --reuid {STRANGER} --regid {STRANGER} --clear-groups python3 -Ic '
import socket
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(bytes(8), ("{WEB_ADDRESS}", {MARKED}))'"""


class Installed:
    """The fleet of MACHINE."""

    def __init__(self, machine: Machine, access: Access, count: int, usual: run.Changes = USUAL) -> None:
        self.machine, self.access, self.usual = machine, access, usual
        self.run = machine.run
        self._numbers = itertools.count()
        self.began = datetime.now(timezone.utc)
        self.workers = [Worker(uid=FIRST_UID + number) for number in range(count)]

    def install(self) -> None:
        """Make settings, keys and accounts."""
        lab = self.access.lab
        for path in lab.places.keys.glob("*.conf"):
            self.machine.write(f"root/keys/{path.name}", path.read_text())
        self.machine.write("etc/fleet/ca.pem", lab.places.authority.read_text())
        self.machine.write("root/prober.sh", PROBER)
        self.configure()
        self.run("fleet accounts make && netctl keys import /root/keys/*.conf", check=True)

    def configure(self, changes: run.Changes = run.NO_CHANGES) -> None:
        """Write fleet.toml with CHANGES of what it usually is."""
        settings = run.settings(self.access.lab, len(self.workers), first_uid=FIRST_UID, changes=self.usual)
        settings["browser"]["certificate_authorities"] = ["/etc/fleet/ca.pem"]
        settings["verify"] = {"resolver_echo": ECHO_NAME, "stun": f"{SITE_NAME}:{STUN_PORT}"}
        for table, keys in changes.items():
            settings[table] = {**settings.get(table, {}), **keys}
        self.machine.write("etc/fleet/fleet.toml", run.toml(settings))

    # --- what is seen

    def active(self) -> str:
        """Its state as systemd names it."""
        return self.machine.unit("fleet", "ActiveState")

    def restarts(self) -> int:
        """How often systemd has restarted it by itself."""
        return int(self.machine.unit("fleet", "NRestarts"))

    def said(self) -> str:
        """The end of the unit's journal."""
        return self.run("journalctl --unit=fleet --no-pager --output=cat --lines=30").stdout

    def status(self) -> dict[str, Any]:
        """`fleet status --json`."""
        done = self.run("fleet status --json")
        found: dict[str, Any] = json.loads(done.stdout or "{}")
        return found

    def supervisor(self) -> int:
        """supervisord's pid in the machine's PID namespace."""
        return int(self.status()["supervisor_pid"])

    def doctor(self) -> dict[str, tuple[str, str]]:
        """By check, the doctor's verdict and what was seen."""
        done = self.run("fleet doctor --json")
        return {one["name"]: (one["verdict"], one["seen"]) for one in json.loads(done.stdout or "[]")}

    def verdicts(self) -> dict[str, str]:
        """By check, the doctor's verdict."""
        return {name: verdict for name, (verdict, _) in self.doctor().items()}

    def address(self) -> str:
        """The host's own address; "" while it has none."""
        found = json.loads(self.run(f"ip -json -4 address show dev {UPLINK}").stdout)
        return str(found[0]["addr_info"][0]["local"]) if found and found[0]["addr_info"] else ""

    def wait_until_held(self) -> None:
        """Wait until everything that confines the workers is in the kernel."""
        commands = "ip -oneline rule show; nft list tables; " + "; ".join(
            f"ip route show table {one.table} | grep default" for one in self.workers
        )
        wanted = [
            *(f"{uid}-{uid} lookup" for uid in (one.uid for one in self.workers)),
            *(f"{uid}-{uid} prohibit" for uid in (one.uid for one in self.workers)),
            *(f"default dev {one.interface}" for one in self.workers),
            *("table inet fleet\n", "table inet fleet_hold\n"),
        ]

        def missing() -> list[str]:
            there = self.run(commands).stdout
            return [one for one in wanted if one not in there]

        until("all that holds the workers is there", lambda: not missing(), 30, missing)

    def results(self, worker: Worker) -> list[Result]:
        """The results that WORKER has handed in."""
        return list(read_spool(self.machine.seen(f"var/lib/fleet/workers/{worker.name}/spool")))

    def wait_for_loops(self) -> list[Result]:
        """Wait for a loop of every worker that begins after now; all must be good."""
        began = datetime.now(timezone.utc)

        def found() -> list[Result]:
            recent = [next((r for r in self.results(one) if r.started > began), None) for one in self.workers]
            return [one for one in recent if one is not None] if all(recent) else []

        made = until(
            "a loop of each worker", found, LOOP_SECONDS, lambda: (self.said(), self.run("fleet status").stdout)
        )
        assert all(one.ok for one in made), made
        return made

    def nothing_leaves_after(self, kill: str, seconds: float = 180, pause_seconds: float = 0.01) -> None:
        """After KILL systemd starts the fleet again; assert that no packet of a worker's UID leaves then or later."""
        restarts = self.restarts()
        with self.probed(STRANGER) as ear:
            until("the capture sees a stranger", ear.says_more, seconds)
        with self.probed(self.workers[0].uid) as ear:
            killed = time.monotonic()
            self.run(kill, check=True)
            until("started again", lambda: self.restarts() > restarts, seconds, self.said, pause_seconds)
            until("active", lambda: self.active() == "active", seconds, self.said, pause_seconds)
            print(f"up again {time.monotonic() - killed:.1f} s after: {kill}")
            assert not self.escaped(ear), self.said()

    @contextlib.contextmanager
    def probed(self, uid: int) -> Iterator[Ear]:
        """While entered, a prober under UID tries to get out; yields what the ISP sees of it."""
        seen = f"udp and dst host {WEB_ADDRESS} and dst portrange {MARKED}-{PROBED}"
        told = "--property=StandardOutput=truncate:/root/tries"
        with capturing(self.access.lab, seen) as ear, self.beside(f"sh /root/prober.sh {uid}", told):
            until("the prober tries", lambda: self.run("head -c 1 /root/tries").stdout, 180)
            yield ear

    def escaped(self, ear: Ear) -> list[str]:
        """The prober's packets that EAR has heard, up to a mark that leaves by the same wire after them."""
        heard: list[str] = []

        def marked() -> bool:
            self.run(MARK)
            heard.extend(ear.rest())
            return any(f".{MARKED}: " in line for line in heard)

        until("the mark is heard", marked, 180, lambda: heard)
        return [line for line in heard if f".{MARKED}: " not in line]

    @contextlib.contextmanager
    def beside(self, command: str, *settings: str) -> Iterator[None]:
        """While entered, COMMAND runs in its own unit, with SETTINGS for systemd-run."""
        unit = f"beside-{next(self._numbers)}"  # systemd may remember one that has ended
        kept = ("--property=Type=exec", "--property=IgnoreOnIsolate=yes")
        start = " ".join(("systemd-run", "--quiet", "--collect", *kept, f"--unit={unit}", *settings))
        self.run(f"{start} {command}", check=True)
        try:
            yield
        finally:
            self.run(f"systemctl stop {unit}", check=True)
