"""The programs of this installation, and the exact command that starts each of them.

Root starts everything; each program gets only what it needs: netctl and its tunnels run as an
ordinary user with one capability, a worker's launcher stays root only until it has become the worker.

A program reports its error to its parent as data: with FLEET_ERRORS=json in its environment it repeats the error on the
last line of its standard error, after the text for people, in the format in which an error crosses a socket
(fleet.sockets.wire). A program that ends before it can do so (Python itself, setpriv), or is not the fleet's, leaves
only plain text.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from fleet import visible
from fleet.backends import Backend
from fleet.errors import FleetError, MissingProgram, TryLater, causes, from_wire
from fleet.isolation import UID, Isolation
from fleet.machine import syscalls
from fleet.model import ACCOUNT_GROUP, HUB_ACCOUNT, KEYS_ACCOUNT, NETCTL_ACCOUNT, Paths, Worker
from fleet.sockets import wire

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PLAIN_ENVIRONMENT = {"PATH": SEARCH_PATH, "LANG": "C.UTF-8"}
"""The environment of a program that is not the fleet's."""
ERRORS_AS_DATA = {"FLEET_ERRORS": "json"}
"""Added to the environment of a program whose error its parent reads."""
_CAP_SYS_RESOURCE = 24
_OPEN_FILES = 16_384
"""netctl has some ten sockets in each worker's namespace, with isolation netns."""


def undetected_is_installed() -> bool:
    """Whether the driver "undetected" is installed; `bin/setup --without-undetected` leaves it out."""
    return find_spec("undetected_chromedriver") is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """The code, the Python that runs it, and the paths it works on."""

    paths: Paths
    python: Path = field(default_factory=lambda: Path(sys.executable))
    release: Path = field(default_factory=lambda: Path(__file__).resolve().parent.parent)

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of every program; nothing of the caller's environment is passed on."""
        return {**PLAIN_ENVIRONMENT, "FLEET_ROOT": str(self.paths.root), **ERRORS_AS_DATA}

    def module(self, name: str, *arguments: str) -> list[str]:
        """The command that runs module NAME of this release."""
        return [str(self.python), "-I", str(self.release / "launch.py"), name, *arguments]

    def launcher(self, *arguments: str) -> list[str]:
        """The command of the launcher, which root runs before a worker. It needs no library, hence -S."""
        return [str(self.python), "-IS", str(self.release / "launch.py"), "launcher", *arguments]

    def supervisord(self, *arguments: str) -> list[str]:
        return self.module("supervisor.supervisord", *arguments)

    def netctl(self, *arguments: str, walls: Isolation = UID) -> list[str]:
        """netctl under its own account, with only the capabilities that WALLS need (`serve`: the fleet's isolation)."""
        return [*_as_netctl(walls), *self.module("netctl", *arguments)]

    def hub(self, *arguments: str) -> list[str]:
        """The hub under its own account, without capabilities."""
        return [*_as_ordinary(HUB_ACCOUNT), *self.module("hub", *arguments)]

    def keyservice(self, *arguments: str) -> list[str]:
        """The program that talks to the key service, likewise; it writes no core dump."""
        return ["prlimit", "--core=1", *_as_ordinary(KEYS_ACCOUNT), *self.module("keyservice", *arguments)]

    def rearm(self) -> list[str]:
        """supervisord's event listener, as root."""
        return ["setpriv", "--pdeathsig=TERM", "--no-new-privs", *self.module("fleet.operate.rearm")]

    def acts(self) -> list[str]:
        """The program that stops and starts workers for the hub's page: root, without capabilities."""
        bound = ["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]
        return ["setpriv", *bound, "--pdeathsig=TERM", *self.module("fleet.operate.acts")]

    def tunnel(self, worker: Worker, backend: Backend) -> list[str]:
        """The program that runs WORKER's WireGuard device, if BACKEND has one."""
        return [*_as_netctl(UID), *backend.program, worker.interface]

    def worker(self, worker: Worker) -> list[str]:
        """The launcher for WORKER: it becomes the worker and runs its loop."""
        return self.launcher(str(self.paths.launch_spec(worker)))


def _as_ordinary(account: str) -> list[str]:
    """A prefix: under ACCOUNT, with its own group and the workers', without capabilities."""
    return [
        "setpriv",
        f"--reuid={account}",
        f"--regid={ACCOUNT_GROUP}",
        f"--groups={account}",
        "--inh-caps=-all",
        "--bounding-set=-all",
        "--no-new-privs",
        "--pdeathsig=TERM",
    ]


def _as_netctl(walls: Isolation) -> list[str]:
    capabilities = ",".join(["-all", *(f"+{name}" for name in walls.capabilities)])
    # pdeathsig: when supervisord is killed, no program survives that its successor does not know.
    # nice: the programs that carry all packets and answer every rotation take precedence over browsers.
    # memlock: netctl keeps its keys out of swap (netctl/privileges.py).
    # core: netctl and the tunnels' programs hold private keys. 1 byte and not 0: where cores are piped to a program
    # (systemd-coredump, apport) the kernel heeds no other limit (coredump_pipe in fs/coredump.c).
    return [
        "prlimit",
        "--core=1",
        *(["--memlock=unlimited"] if _may_lock_memory() else []),
        *([] if walls is UID else [f"--nofile={_OPEN_FILES}"]),
        "nice",
        "--adjustment=-10",
        "setpriv",
        f"--reuid={NETCTL_ACCOUNT}",
        f"--regid={ACCOUNT_GROUP}",
        "--clear-groups",
        f"--inh-caps={capabilities}",
        f"--ambient-caps={capabilities}",
        f"--bounding-set={capabilities}",
        "--securebits=+noroot,+noroot_locked",
        "--no-new-privs",
        "--pdeathsig=TERM",
    ]


def _may_lock_memory() -> bool:
    """Whether the limit of locked memory can be raised here; in a container root may lack the right."""
    unlimited = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1] == resource.RLIM_INFINITY
    return unlimited or bool(syscalls.capabilities().effective >> _CAP_SYS_RESOURCE & 1)


def call(command: Sequence[str], environment: Mapping[str, str], *, deadline_seconds: float, given: str = "") -> str:
    """Run COMMAND to its end, with GIVEN on its standard input; returns its standard output.

    Raises the program's own error, so that the operator reads one error and not an error about an error; for that
    ENVIRONMENT must contain ERRORS_AS_DATA. At the deadline the program is killed: TryLater. Not found: MissingProgram.
    """
    try:
        done = subprocess.run(
            command,
            env=dict(environment),
            input=given,
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=deadline_seconds,
            check=False,
        )
    except FileNotFoundError as error:
        raise MissingProgram(f"{error.filename} is not there", hint="sudo bin/setup") from error
    except subprocess.TimeoutExpired as error:
        hint = "look whether this host is overloaded, then try again"
        raise TryLater(f"{_short(command)} did not end within {deadline_seconds:g} s", hint=hint) from error
    if done.returncode != 0:
        raise told_error(done.stderr, f"{_short(command)} ended with code {done.returncode}")
    return done.stdout


def _short(command: Sequence[str]) -> str:
    """COMMAND without the parts that are the same for every program."""
    words = list(command)
    if "-I" in words:
        words = words[words.index("-I") + 1 :]
        words[0] = os.path.basename(words[0])  # noqa: PTH119 - a word of a command, maybe no path at all
    return " ".join(words)


def tell_error(error: Exception) -> None:
    """Repeat ERROR as data on standard error, if the environment asks for it."""
    if ERRORS_AS_DATA.items() <= os.environ.items():
        sys.stderr.write(visible.json(wire.encode_error(_with_causes(error)).decode()))


def told_error(said: str, otherwise: str) -> FleetError:
    """The error on the last line of SAID, a program's standard error.

    Without one it is a FleetError with the plain text, or with OTHERWISE when there is none.
    """
    lines = said.rstrip().split("\n")  # splitlines() would also split inside a message
    if error := wire.decode_error(lines[-1].encode()):
        return error
    # Log lines are JSON objects.
    words = [line.strip() for line in lines if line.strip() and not line.startswith("{")]
    return FleetError("\n".join(words) or otherwise)


def _with_causes(error: Exception) -> FleetError:
    """ERROR with the messages and hints of its causes, because causes are not sent."""
    chain = list(causes(error))
    first = "" if isinstance(error, FleetError) else f"{type(error).__name__}: "
    return from_wire(
        type(error).__name__,
        {
            "message": first + "\n".join(str(one) or type(one).__name__ for one in chain),
            "hint": "; ".join(one.hint for one in chain if isinstance(one, FleetError) and one.hint),
            "data": error.data if isinstance(error, FleetError) else {},
        },
    )
