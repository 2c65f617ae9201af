"""A virtual machine in software: Debian's kernel, the host's file system (read only, 9p), one program, its end.

qemu without hardware virtualisation, so that it runs wherever the other tiers do. Up in 5 s; Python is some
20 times slower than outside.
"""

from __future__ import annotations

import os
import re
import selectors
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.vm.kernel_package import Kernel
from tests.waiting import until

HERE = Path(__file__).resolve().parent
BUSYBOX = Path("/bin/busybox")
MODULES = (
    *("virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_rng"),  # what it needs to see its root
    # What the kernel would load by itself at the first use, which takes seconds here.
    *("wireguard", "veth", "tun", "nf_conntrack", "nf_conntrack_netlink", "nf_nat", "nft_chain_nat", "nft_ct"),
    *("nft_nat", "inet_diag", "tcp_diag", "udp_diag"),
)
ALONE = ("test_wall_clock.py", "test_cgroups.py")
"""Contract tests of this machine alone: they step the clock, or divide control groups."""
ONCE = ("flushed", "foreign", "lowered")
"""Words in the names of those that are about no device: here they run in one isolation, outside in both."""
UP_SECONDS = 90
"""From qemu's start to the first line of inside.sh; 6 s on an idle machine."""
UP, EXIT = re.compile(r"fleet-vm: up\n"), re.compile(r"fleet-vm: exit (\d+)\n")
COMMAND_LINE = "console=ttyS0 quiet panic=-1 random.trust_cpu=on mitigations=off"


def inside() -> bool:
    """Whether this is the machine: by its command line, which nobody can give to a kernel that runs."""
    return " fleet.job=" in Path("/proc/cmdline").read_text()


class MachineFailed(Exception):
    """The machine did not come up, or did not come to its end; the message holds its last words."""


class Conversation:
    """What the machine writes on its second serial line, followed to a deadline."""

    def __init__(self, process: subprocess.Popen[bytes], console: Path) -> None:
        assert process.stdout
        self._process, self._console = process, console
        self._pipe = process.stdout.fileno()
        self.text = ""

    def until(self, pattern: re.Pattern[str], seconds: float, complaint: str) -> re.Match[str]:
        """Read on until PATTERN is found in all the text so far; raises MachineFailed."""
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._pipe, selectors.EVENT_READ)
            while not (found := pattern.search(self.text)):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise MachineFailed(f"the machine {complaint} within {seconds:g} s\n{self._last_words()}")
                if selector.select(left):
                    data = os.read(self._pipe, 65_536)
                    if not data:
                        raise MachineFailed(f"qemu ended before the machine did\n{self._last_words()}")
                    self.text += data.decode(errors="replace").replace("\r", "")
        return found

    def _last_words(self) -> str:
        console = self._console.read_text(errors="replace") if self._console.exists() else ""
        parts = (("output", self.text), ("console", console.replace("\r", "")))
        return "\n".join(f"--- {name}\n" + "\n".join(text.splitlines()[-40:]) for name, text in parts)


class Running(Conversation):
    """A machine that is under way; what it has to tell waits in the pipe until it is asked for."""

    def outcome(self, seconds: float) -> tuple[int, str]:
        """Wait for the end of its program, give its exit code and output; from now on the machine yields to nothing.

        Raises MachineFailed when it is not up UP_SECONDS from now, or has not ended SECONDS after that.
        """
        with suppress(ProcessLookupError):  # it has ended
            for thread in Path(f"/proc/{self._process.pid}/task").iterdir():
                os.setpriority(os.PRIO_PROCESS, int(thread.name), 0)
        up = self.until(UP, UP_SECONDS, "did not come up")
        end = self.until(EXIT, seconds, "has not ended")
        return int(end[1]), self.text[up.end() : end.start()]


@contextmanager
def started(kernel: Kernel, argv: Sequence[str], folder: Path, settings: Mapping[str, str]) -> Iterator[Running]:
    """Boot, run ARGV as root in FOLDER with the environment SETTINGS, power off; left, the machine is gone."""
    with tempfile.TemporaryDirectory(prefix="fleet-vm-", dir="/var/tmp") as made:
        job = Path(made)
        shutil.copy(HERE / "inside.sh", job)
        words = [*(f"{name}={value}" for name, value in settings.items()), *argv]
        (job / "argv").write_bytes(b"\0".join(word.encode() for word in words))
        (job / "folder").write_text(str(folder))
        (job / "modules").symlink_to(kernel.modules)
        (job / "initramfs").write_bytes(initramfs(kernel, HERE / "init"))
        # It yields to the tests that run beside it, until its own test waits for it.
        qemu = ["nice", "--adjustment=19", *command(kernel, job, "1G", f"fleet.job={job}")]
        process = subprocess.Popen(qemu, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            # Raised before `nice` has lowered it, it would yield for all of its time.
            until("it yields", lambda: os.getpriority(os.PRIO_PROCESS, process.pid) == 19)
            yield Running(process, job / "console")
        finally:
            process.kill()
            process.wait(30)


def command(kernel: Kernel, job: Path, memory: str, words: str) -> list[str]:
    """What runs qemu: JOB holds the initramfs, WORDS are for it; its second serial line is our pipe."""
    argv = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]
    argv += ["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", memory]
    argv += ["-kernel", str(kernel.image), "-initrd", str(job / "initramfs"), "-append", f"{COMMAND_LINE} {words}"]
    argv += ["-serial", f"file:{job / 'console'}", "-serial", "stdio", "-device", "virtio-rng-pci"]
    argv += ["-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"]
    return argv


def initramfs(kernel: Kernel, init: Path, more: tuple[str, ...] = ()) -> bytes:
    """busybox, the modules that lead to the root and those named in MORE, and INIT."""
    modules = kernel.with_dependencies((*MODULES, *more))
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for folder in ("bin", "dev", "proc", "modules"):
            (root / folder).mkdir()
        shutil.copy(BUSYBOX, root / "bin")
        shutil.copy(init, root)
        (root / "init").chmod(0o755)
        for module, content in modules.items():
            (root / "modules" / module).write_bytes(content)
        (root / "modules/order").write_text("\n".join(modules))
        packed = f"find . | {BUSYBOX} cpio -o -H newc"
        return subprocess.run(["sh", "-c", packed], cwd=root, capture_output=True, check=True).stdout
