"""Network namespaces of the contract suite: what is run, asked and heard in one, by its path."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path
from typing import TypeVar

from fleet.machine import spaces
from tests.waiting import until

T = TypeVar("T")
TELLER = ("203.0.113.80", 7)
TELL = f"""
import socket
listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listener.bind({TELLER!r})
print("ready", flush=True)
while True:
    _, asker = listener.recvfrom(100)
    listener.sendto(asker[0].encode(), asker)
"""


@contextlib.contextmanager
def monitored(place: Path, heard: list[str]) -> Iterator[None]:
    """What `ip monitor address` hears in PLACE is added to HEARD at the end."""
    with place.open() as kept:  # however soon the name goes
        into = ("nsenter", f"--net=/proc/{os.getpid()}/fd/{kept.fileno()}", "ip")
        with subprocess.Popen([*into, "monitor", "address"], stdout=subprocess.PIPE, text=True) as monitor:
            # The monitor is listening once it reports an address made for that purpose; another ends the wait.
            try:
                _beacon(monitor, into, "192.0.2.101")
                yield
                heard += _beacon(monitor, into, "192.0.2.102")
            finally:
                monitor.kill()


def _beacon(monitor: subprocess.Popen[str], ip: tuple[str, ...], address: str) -> list[str]:
    """What MONITOR has heard up to an ADDRESS that comes and goes where IP goes."""
    assert monitor.stdout
    heard_from = monitor.stdout.fileno()

    def heard_it() -> bool:
        for verb in ("add", "delete"):
            run(*ip, "address", verb, f"{address}/32", "dev", "lo")
        return bool(select.select([heard_from], [], [], 0.2)[0])

    until("ip monitor hears", heard_it)
    heard = []
    for line in iter(monitor.stdout.readline, ""):
        if address in line:  # after the last beacon's going nothing is of interest
            break
        if "192.0.2.10" not in line and "valid_lft" not in line:
            heard.append(line.strip())
    return heard


def moved(place: Path, work: Callable[[], T]) -> T:
    """Do WORK in the network namespace PLACE, in a thread of its own: setns(2) moves one thread alone."""

    def there() -> T:
        spaces.enter(place)
        return work()

    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(there).result()


def ask(uid: int) -> IPv4Address | None:
    """Ask the teller from a socket of UID, in this thread, which ends after it.

    setfsuid(2) is the thread's own; the kernel takes a socket's owner from it (sock_alloc in net/socket.c).
    """
    ctypes.CDLL(None, use_errno=True).setfsuid(uid)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(2)
        try:
            asking.sendto(b"who am I?", TELLER)
            return IPv4Address(asking.recv(100).decode())
        except OSError:  # refused by a rule, dropped (EPERM), or no answer in time
            return None


def at(place: Path, words: str) -> str:
    """Run WORDS in PLACE."""
    return run("nsenter", f"--net={place}", *words.split())


def run(*argv: str) -> str:
    """Run ARGV to its end; the test fails with what it says."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr.strip()}"
    return done.stdout
