"""Topology -> kernel: namespaces, bridges, wires, addresses, routes, by `ip`."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from fleet.errors import FleetError, ForeignObject, MissingProgram
from fleet.machine import spaces
from lab.topology import Topology

NAMESPACES = Path("/run/netns")
"""Where `ip netns` keeps its names."""
Result = TypeVar("Result")


def program(name: str) -> str:
    """Where it is; raises MissingProgram."""
    if found := shutil.which(name, path="/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"):
        return found
    raise MissingProgram(f"{name} is not there", hint="run: sudo bin/setup")


def inside(namespace: str | Path, work: Callable[[], Result]) -> Result:
    """Do WORK in the network namespace, a name of `ip netns` or a path.

    setns(2) moves one thread alone, so that thread is a fresh one.
    """

    def moved() -> Result:
        spaces.enter(NAMESPACES / namespace)
        return work()

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix=str(namespace)) as pool:
        return pool.submit(moved).result()


@contextmanager
def beside(namespace: str, work: Callable[[threading.Event], None]) -> Iterator[None]:
    """While entered, WORK runs in the network namespace; it must end when its event is set, and is waited for."""
    ending = threading.Event()
    thread = threading.Thread(target=lambda: inside(namespace, lambda: work(ending)), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def refuse_foreign(wanted: Iterable[str], ours: Sequence[str]) -> None:
    """Raise ForeignObject if a namespace that this lab needs exists and no lab has claimed it."""
    foreign = [name for name in wanted if (NAMESPACES / name).exists() and name not in ours]
    if foreign:
        raise ForeignObject(
            f"the network namespace {', '.join(foreign)} is in use by somebody else",
            hint=f"choose another lab name (--lab), or remove it: ip netns delete {foreign[0]}",
        )


def create(topology: Topology) -> None:
    """Make every host with its wires; the names must be free. Raises OSError or FleetError."""
    for host in topology.hosts:
        spaces.make(NAMESPACES / topology.namespace(host))
        inside(topology.namespace(host), partial(_prepare, topology.sysctls(host)))
    for host, lines in topology.wires().items():
        batch(topology.namespace(host), lines)


def _prepare(sysctls: dict[str, str]) -> None:
    for name, value in sysctls.items():
        Path("/proc/sys/net", name).write_text(value)


def batch(namespace: str | Path, lines: Iterable[str]) -> None:
    """Give LINES to `ip -batch` in the network namespace; raises FleetError."""
    tell(namespace, ("ip", "-batch", "-"), "\n".join(lines))


def tell(namespace: str | Path, tool: Sequence[str], text: str = "") -> str:
    """The output of TOOL in the network namespace, with TEXT as its input; raises FleetError with its complaint."""
    argv = ["nsenter", f"--net={NAMESPACES / namespace}", *tool]
    done = subprocess.run(argv, input=text, text=True, capture_output=True, check=False)
    if done.returncode:
        raise FleetError(f"{' '.join(tool)} in {namespace}: {done.stderr.strip()}")
    return done.stdout


def remove(names: Iterable[str]) -> None:
    """Remove namespaces by name, those that are there; their links go with them."""
    for name in names:
        spaces.remove(NAMESPACES / name)
