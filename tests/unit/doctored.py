"""A machine for the doctor, laid out in a folder: files, processes, and answers of commands."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fleet.errors import FleetError
from fleet.model import Paths
from fleet.operate import configuration
from fleet.operate.doctor import examine
from fleet.operate.doctor.check import Finding
from fleet.operate.doctor.machine import NOT_THERE, Answer, Case, Machine
from fleet.programs import Installation
from fleet.sockets import wire

BOOT, STARTED = 1_700_000_000, 1_700_000_100
SETTINGS = """
isolation = "uid"
[workers]
count = 2
[dns]
resolvers = ["198.18.0.53"]
[egress]
urls = ["https://shop.example/ip"]
"""
GOOD: dict[str, Answer] = {
    "getent passwd": Answer(code=2),
    "getent group": Answer(code=2),
    "netctl probe": Answer(code=0, out='{"backend": "kernel"}'),
    "netctl alone": Answer(code=0),
    "netctl plan": Answer(code=2, out='["ip rule add ..."]'),
    "netctl cleanup": Answer(code=0, out="[]"),
    "unshare --net": Answer(code=0),
    "unshare --mount": Answer(code=0),
    "nft --version": Answer(code=0, out="nftables v1.0.6 (Lester Gooch #5)\n"),
    "worker task": Answer(code=0),
    "worker check": Answer(code=0, out=json.dumps({"browser": "/b", "driver": "/d", "version": "156.0"})),
    "fc-list :charset=1f3a7": Answer(code=0, out="Noto Color Emoji\n"),
    "fc-list :lang=ko": Answer(code=0, out="Noto Sans CJK KR,Noto Sans CJK KR Bold\n"),
    "setpriv --reuid=65534": Answer(code=0),
    "ip -4 -json route show table all": Answer(code=0, out='[{"dst": "default", "dev": "eth0"}]'),
}


@dataclass
class Laid:
    """The folder, and the answers of commands; unchanged, every check is ok on it."""

    root: Path
    settings: str = SETTINGS
    answers: dict[str, Answer] = field(default_factory=lambda: dict(GOOD))
    synchronised: bool = True
    running: bool = False
    no_bpf: bool = False
    asked: list[str] = field(default_factory=list)
    refused: set[tuple[str, str]] = field(default_factory=set)
    """Programs that fail when they are given this on standard input."""

    def __post_init__(self) -> None:
        self.write("etc/fleet/fleet.toml", self.settings).chmod(0o644)
        self.write("etc/resolv.conf", "nameserver 192.0.2.53\n")
        self.write("proc/stat", f"cpu 1 2\nbtime {BOOT}\n")
        self.write("proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\nSwapTotal: 0 kB\n")
        self.write("proc/filesystems", "nodev\ttmpfs\n")
        self.write("proc/sys/fs/inotify/max_user_instances", "128")
        self.write("proc/sys/fs/nr_open", "1048576")
        self.write("proc/sys/fs/file-max", "9223372036854775807")
        self.write("proc/self/limits", "Max open files            1024                 1048576              files\n")
        self.write("proc/self/status", "CapEff:\t000001ffffffffff\n")
        self.write("proc/sys/kernel/osrelease", "6.1.0-test")
        self.filter("all", 0)
        self.filter("eth0", 2)
        self.write("usr/lib/x86_64-linux-gnu/libnftables.so.1")
        (self.root / "dev/shm").mkdir(parents=True)
        self._network(self.root / "proc/self/ns/net")

    def write(self, path: str, text: str = "") -> Path:
        made = self.root / path
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text(text)
        return made

    def filter(self, interface: str, value: int) -> None:
        """Set rp_filter of INTERFACE."""
        self.write(f"proc/sys/net/ipv4/conf/{interface}/rp_filter", f"{value}\n")

    def program(self, name: str) -> None:
        self.write(f"usr/bin/{name}").chmod(0o755)

    def process(
        self, pid: int, name: str, *, uid: int = 0, parent: int = 1, network: str = "net:[1]", fleet_root: str = ""
    ) -> None:
        """Add a process that started 100 s after the boot; FLEET_ROOT is in its environment."""
        self.write(f"proc/{pid}/status", f"Name:\t{name}\nPPid:\t{parent}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n")
        ticks = 100 * os.sysconf("SC_CLK_TCK")
        self.write(f"proc/{pid}/stat", f"{pid} ({name}) S {' '.join(['0'] * 18)} {ticks} 0")
        self.write(f"proc/{pid}/environ", f"A=b\0FLEET_ROOT={fleet_root}\0" if fleet_root else "A=b\0")
        self._network(self.root / f"proc/{pid}/ns/net", network)

    def of_fleet(self, pid: int, fleet_root: str, *, network: str = "net:[1]") -> None:
        """Add a process of the worker w1101, below a launcher of the fleet in FLEET_ROOT."""
        self.process(pid - 1, "python", network=network, fleet_root=fleet_root)
        self.process(pid, "python", uid=1101, parent=pid - 1, network=network)

    def _network(self, path: Path, name: str = "net:[1]") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(name)

    def run(self, command: Sequence[str], given: str) -> Answer:
        """The runner: known whole or by the first two words, of ours by program and verb."""
        words = list(command)
        if "-I" in words:
            words = words[words.index("-I") + 2 :]
        self.asked.append(" ".join(words))
        if given and (words[0], given) in self.refused:
            return Answer(code=1, err="Error: Could not process rule: Operation not supported")
        unknown = Answer(code=NOT_THERE, err=f"{words[0]} is not there")
        return self.answers.get(" ".join(words)) or self.answers.get(" ".join(words[:2]), unknown)

    def keep_ports(self, _: object) -> tuple[int, ...]:
        if self.no_bpf:
            raise OSError(errno.EPERM, "Operation not permitted")
        return ()

    @property
    def case(self) -> Case:
        paths = Paths(root=self.root)
        machine = Machine(
            root=self.root, run=self.run, synchronised=lambda: self.synchronised, keep_ports=self.keep_ports
        )
        return Case(
            machine=machine,
            fleet=configuration.load(paths.config),
            installation=Installation(paths=paths),
            processes=tuple(machine.processes()),
            running=self.running,
        )

    def findings(self) -> list[Finding]:
        """The findings of all checks."""
        case = self.case
        return [check.on(case) for check in examine.CHECKS]

    def finding(self, name: str) -> Finding:
        """The finding of the check NAME."""
        check = next(one for one in examine.CHECKS if one.name == name)
        return check.on(self.case)


Change = Callable[[Laid], object]
"""What makes a good machine another one."""


def settings(text: str) -> Change:
    """Make TEXT the content of fleet.toml."""
    return lambda laid: laid.write("etc/fleet/fleet.toml", text)


def fails(command: str, error: FleetError) -> Change:
    """Make the fleet's program COMMAND end with ERROR, printed for people and as data."""
    said = "\n".join([f"{command}: {error}", wire.encode_error(error).decode()])
    return answers(command, error.exit_code, err=said)


def answers(command: str, code: int = 1, out: str = "", err: str = "") -> Change:
    """Make the program COMMAND answer with CODE, OUT and ERR."""
    return lambda laid: laid.answers.update({command: Answer(code=code, out=out, err=err)})


def both(*changes: Change) -> Change:
    """Make all CHANGES."""
    return lambda laid: [change(laid) for change in changes]


def tun(laid: Laid) -> None:
    """Add /dev/net/tun; it is another device, because only root can make a real one."""
    path = laid.root / "dev/net/tun"
    path.parent.mkdir(parents=True)
    path.symlink_to("/dev/null")


def snap(laid: Laid) -> None:
    """Make the browser a snap."""
    laid.write("snap/bin/chromium")
    (laid.root / "b").symlink_to("snap/bin/chromium")
