"""A real host: this machine's own Debian and the layer's packages, booted by systemd-nspawn with its own network.

Its root is an overlay whose writes go to memory, so nothing is installed for it and nothing of it stays. It boots in
about a second. It has all capabilities, because these tests do not check the container's limits.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from fleet.machine import syscalls
from lab.wires import NAMESPACES
from tests.waiting import until

CHECKOUT = Path(__file__).resolve().parents[2]
HOME = Path("/opt/fleet")
UPLINK = "host0"
"""What nspawn calls a container's end of its wire."""
BOOT_SECONDS = 120
"""Two on an idle machine."""
FORGOTTEN = ("etc/systemd/system", "etc/systemd/network", "etc/fleet", "var/lib/fleet", "var/log/fleet")
"""What this machine has set up for itself is not the booted one's."""
NETWORK = f"""
[Match]
Name={UPLINK}
[Network]
DHCP=ipv4
LinkLocalAddressing=no
IPv6AcceptRA=no
[DHCPv4]
ClientIdentifier=mac
"""
SHELL = (
    *("env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"),
    *("LANG=C.UTF-8", "TERM=dumb", "sh"),
)
_OUTSIDE = ("nsenter", "--net={network}", "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot")
_RIGHTS = ("--capability=all", "--system-call-filter=add_key keyctl bpf", "--bind=/dev/net/tun")
_OWN = ("--resolv-conf=off", "--link-journal=no", "--timezone=off", "--console=pipe", "--tmpfs=/var/lib/docker")
_SETTINGS = {
    # Control groups of version 2, whatever this machine has, and sysctls of its network that it may set.
    "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
    "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
}


class Machine:
    """The host called NAME, its files in FOLDER; its wire ends in the bridge `access` of the namespace ISP."""

    def __init__(self, name: str, folder: Path, isp: str) -> None:
        self.name, self.root, self.console = name, folder / "root", folder / "console"
        self._folder, self._isp = folder, isp
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0
        # Its own among all that run: in two shards processes have the same numbers, and machines the same names.
        self._group = _own_group() / f"host-{os.stat('/proc/self/ns/pid').st_ino}-{name}"  # noqa: PTH116 - a magic link

    @property
    def namespace(self) -> Path:
        """The name of its network namespace while it runs."""
        return NAMESPACES / self.name

    # --- its files

    def lay_out(self, layer: Path) -> None:
        """Make its root, with the files of LAYER."""
        _call("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(self._folder))
        upper, work = self._folder / "upper", self._folder / "work"
        for folder in (work, self.root):
            folder.mkdir()
        _call("cp", "--archive", str(layer), str(upper))
        _call("mount", "-t", "overlay", "-o", f"lowerdir=/,upperdir={upper},workdir={work}", "overlay", str(self.root))
        for name in FORGOTTEN:
            _call("rm", "-rf", str(self.root / name))
            (self.root / name).mkdir(parents=True)
        _call("sh", "-c", 'rm -rf "$0"/etc/rc?.d/S*', str(self.root))  # scripts of programs that have no unit
        self.write("etc/machine-id", "")
        self.write("etc/hostname", f"{self.name}\n")
        self.write("etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n")
        self.write("etc/systemd/network/10-uplink.network", NETWORK)
        for name in ("fleet", "netctl"):
            place = self.root / "usr/local/bin" / name
            place.unlink(missing_ok=True)
            place.symlink_to(CHECKOUT / "bin" / name)
        # What bin/setup does for an operator who follows deploy/fleet.service.
        self.write("etc/systemd/system/fleet.service", (CHECKOUT / "deploy/fleet.service").read_text())
        self.enable("systemd-networkd.service", "systemd-resolved.service")
        wait = "[Service]\nExecStart=\nExecStart=/lib/systemd/systemd-networkd-wait-online --timeout=2\n"
        self.write("etc/systemd/system/systemd-networkd-wait-online.service.d/tests.conf", wait)

    def write(self, name: str, text: str) -> None:
        """Write the file NAME below its root."""
        place = self.root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.write_text(text)

    def seen(self, name: str) -> Path:
        """The path of the file or folder NAME of the running machine, also of one on a separate mount."""
        return Path(f"/proc/{self._leader}/root") / name

    def enable(self, *units: str) -> None:
        """Enable UNITS as `systemctl enable` does, whether the machine runs or not."""
        _call("systemctl", f"--root={self.root}", "--quiet", "enable", *units)

    def take_down(self) -> None:
        """End it, and remove its files."""
        self.cut_power()
        for place in (self.root, self._folder):
            subprocess.run(["umount", "--lazy", str(place)], capture_output=True, check=False)
        with suppress(OSError):  # before Linux 5.14 there is no such file
            (self._group / "cgroup.kill").write_text("1")
        deadline = time.monotonic() + 5
        while not self._remove_groups() and time.monotonic() < deadline:
            time.sleep(0.05)

    def _remove_groups(self) -> bool:
        """Remove its control groups; whether none is left. A group can be removed after its last process has ended."""
        with suppress(OSError):
            for group in sorted(self._group.rglob("*/"), reverse=True):
                group.rmdir()
            self._group.rmdir()
        return not self._group.exists()

    # --- its life

    def start(self) -> None:
        """Switch it on, without waiting for its boot."""
        self._group.mkdir(exist_ok=True)
        into = ["sh", "-c", 'echo 0 >"$0/cgroup.procs"; exec "$@"', str(self._group)]
        outside = [word.format(network=NAMESPACES / self._isp) for word in _OUTSIDE]
        places = [
            f"--directory={self.root}",
            f"--machine={self.name}",
            "--network-bridge=access",
            *(f"--bind={place}" for place in hidden()),
        ]
        with self.console.open("ab") as console:
            self._nspawn = subprocess.Popen(
                [*into, *outside, *places, *_RIGHTS, *_OWN],
                env={**os.environ, **_SETTINGS},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        self._leader = until("the machine's process 1", self._process_one, 30, self.last_words) or 0
        syscalls.bind(Path(f"/proc/{self._leader}/ns/net"), _named(self.namespace))

    def boot(self) -> None:
        """Switch it on, and wait until systemd reports that all units run, or that some do not."""
        self.start()
        until("the machine has booted", self._is_up, BOOT_SECONDS, self.last_words)

    def _process_one(self) -> int | None:
        assert self._nspawn and self._nspawn.poll() is None, f"nspawn ended\n{self.last_words()}"
        for pid in Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split():
            with suppress(OSError):  # it has just ended
                if Path(f"/proc/{pid}/comm").read_text().strip() == "systemd":
                    return int(pid)
        return None

    def _is_up(self) -> bool:
        assert self._nspawn and self._nspawn.poll() is None, f"nspawn ended\n{self.last_words()}"
        return self.run("systemctl is-system-running").stdout.strip() in ("running", "degraded")

    def last_words(self) -> str:
        """The end of its console."""
        return "\n".join(self.console.read_text(errors="replace").splitlines()[-30:])

    def reboot(self) -> None:
        """Shut it down in order and boot it, as `systemctl reboot` does."""
        self.run("systemctl --no-block poweroff")
        self._wait(300)
        self.boot()

    def cut_power(self) -> None:
        """Kill it: what it has not written by now is lost."""
        if self._nspawn is not None:
            with suppress(ProcessLookupError):
                os.kill(self._leader, signal.SIGKILL)
            self._wait(30)

    def _wait(self, seconds: float) -> None:
        assert self._nspawn
        self._nspawn.wait(seconds)
        self._nspawn = None
        _call("umount", "--lazy", str(self.namespace))
        self.namespace.unlink()

    # --- inside

    def run(self, command: str, *, timeout: float = 300, check: bool = False) -> subprocess.CompletedProcess[str]:
        """Run COMMAND in a root shell inside it; with CHECK it must exit with 0."""
        done = self._ended(command, timeout)
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def _ended(self, command: str, timeout: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.inside(command), capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL
        )

    def inside(self, command: str) -> list[str]:
        """The command line that runs COMMAND inside it."""
        return ["nsenter", f"--target={self._leader}", "--all", *SHELL, "-c", command]

    def unit(self, name: str, field: str) -> str:
        """The property FIELD of the unit NAME, as `systemctl show` prints it."""
        return self.run(f"systemctl show --property={field} --value {shlex.quote(name)}").stdout.strip()


def _call(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.returncode}\n{done.stdout}{done.stderr}"


def _own_group() -> Path:
    """This process's own control group of version 2."""
    mounts = subprocess.run(["findmnt", "-nrt", "cgroup2", "-o", "TARGET"], capture_output=True, text=True, check=False)
    mine = next(line[4:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::/"))
    assert mounts.stdout, "this machine has no control groups of version 2, which systemd needs (mount -t cgroup2)"
    return Path(mounts.stdout.splitlines()[0]) / mine


def hidden() -> list[Path]:
    """Paths of the checkout and the fleet's programs that an overlay of / does not show: separate mounts, and /tmp."""
    root = Path("/").stat().st_dev
    return [one for one in (CHECKOUT, HOME) if one.stat().st_dev != root or one.is_relative_to("/tmp")]


def _named(place: Path) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.touch()
    return place
