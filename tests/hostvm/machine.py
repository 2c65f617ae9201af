"""The host tier's machine under Debian's own kernel, in qemu without hardware virtualisation.

Its root is the one that nspawn would boot, read over 9p, with a layer in memory above it. There every opened file costs
milliseconds, so what has thousands of files is on disks of its own. Control groups are of version 2 with all of their
controllers, WireGuard is the kernel's, and everything is some 20 times slower.
"""

from __future__ import annotations

import compileall
import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path

from lab.wires import NAMESPACES
from tests.host.machine import CHECKOUT, HOME, SHELL, UPLINK, Machine, hidden
from tests.vm.kernel_package import Kernel
from tests.vm.machine import UP, Conversation, command, initramfs

HERE = Path(__file__).resolve().parent
UP_SECONDS = 300
"""From qemu's start to systemd's multi-user.target; 40 s were measured."""
TAP = "tapvm"
LINK = f"[Match]\nDriver=virtio_net\n[Link]\nName={UPLINK}\n"
DISKS = ("/usr/lib/python3.11", "/usr/lib/chromium")
"""Beside the release and its environment."""
AGENT = f"[Service]\nExecStart={' '.join(SHELL)} /job/agent.sh\n[Install]\nWantedBy=multi-user.target\n"


class VirtualMachine(Machine):
    """The host called NAME, its files in FOLDER; its wire ends in the bridge `access` of the namespace ISP."""

    def __init__(self, name: str, folder: Path, isp: str, kernel: Kernel) -> None:
        super().__init__(name, folder, isp)
        self._kernel, self._job = kernel, folder / "job"
        self._numbers = itertools.count(1)
        self._qemu: subprocess.Popen[bytes] | None = None
        self._conversation: Conversation | None = None
        self._disks: list[str] = []
        self.console = self._job / "console"

    def lay_out(self, layer: Path) -> None:
        """Its root, with what LAYER has, and what a virtual machine needs beside that."""
        super().lay_out(layer)
        super().write("etc/systemd/network/10-uplink.link", LINK)
        super().write("etc/systemd/system/agent.service", AGENT)
        self.enable("agent.service")
        self._job.mkdir()
        shutil.copy(HERE / "agent.sh", self._job)
        (self._job / "modules").write_text(str(self._kernel.modules))
        (self._job / "hidden").write_text("\n".join(map(str, hidden())))
        # Compiling takes longer there than a program may take, and netctl's account could not keep what it compiled.
        release = _said(CHECKOUT / "bin/release", HOME)
        compileall.compile_dir(release, quiet=1)
        self._disks = [one for one in (release, sys.prefix, *DISKS) if Path(one).is_dir()]
        for number, folder in enumerate(self._disks):
            mebibytes = int(_said("du", "-sm", folder).split()[0]) * 5 // 4 + 8
            _said("mke2fs", "-q", "-t", "ext4", "-i", "8192", "-d", folder, self._disk(number), f"{mebibytes}M")
        (self._job / "disks").write_text("".join(f"{folder}\n" for folder in self._disks))
        modules = ("virtio_net", "virtio_blk", "ext4")
        (self._job / "initramfs").write_bytes(initramfs(self._kernel, HERE / "init", modules))

    def _disk(self, number: int) -> Path:
        return self._job / f"disk{number}"

    def start(self) -> None:
        """Switch it on, and wait until it listens."""
        namespace = f"--net={NAMESPACES / self._isp}"
        tap = f"ip tuntap add {TAP} mode tap && ip link set {TAP} master access up"
        subprocess.run(["nsenter", namespace, "sh", "-c", tap], check=True)
        argv = ["nsenter", namespace, *command(self._kernel, self._job, "3G", f"fleet.job={self._folder}")]
        argv += ["-virtfs", f"local,path={self._job},mount_tag=job,security_model=none"]
        argv += ["-netdev", f"tap,id=n,ifname={TAP},script=no,downscript=no", "-device", "virtio-net-pci,netdev=n"]
        for number, _ in enumerate(self._disks):
            argv += ["-drive", f"file={self._disk(number)},format=raw,if=virtio"]
        self._qemu = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._conversation = Conversation(self._qemu, self.console)
        self._conversation.until(UP, UP_SECONDS, "did not come up")

    def _is_up(self) -> bool:
        return self.run("systemctl is-system-running --wait").stdout.strip() in ("running", "degraded")

    def cut_power(self) -> None:
        """What it has not written by now is lost to it."""
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu.wait(30)
            self._qemu = None

    def write(self, name: str, text: str) -> None:
        """The file NAME below its root."""
        if self._qemu is None:
            super().write(name, text)
        else:
            (self._job / "written").write_text(text)
            self.run(f"install -D -m 644 /job/written /{name}", check=True)

    def seen(self, name: str) -> Path:
        """Where the file or folder NAME below its root can be read, as it is now."""
        # With the owners of the folders above, which who reads a spool looks at.
        self.run(f"rm -rf /job/seen && mkdir /job/seen && cd / && cp -a --parents {name} /job/seen")
        return self._job / "seen" / name

    def _ended(self, command: str, timeout: float) -> subprocess.CompletedProcess[str]:
        assert self._qemu and self._qemu.stdin and self._conversation
        number = next(self._numbers)
        script = self._job / str(number)
        script.write_text(f"{command}\n")
        self._qemu.stdin.write(f"{number}\n".encode())
        self._qemu.stdin.flush()
        wanted = re.compile(rf"fleet-vm: {number} ended with (\d+)\n")
        end = self._conversation.until(wanted, timeout, f"has not done in time: {command}")
        out, error = (script.with_name(f"{number}.{what}").read_text(errors="replace") for what in ("out", "err"))
        return subprocess.CompletedProcess(command, int(end[1]), out, error)


def _said(*words: str | Path) -> str:
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
