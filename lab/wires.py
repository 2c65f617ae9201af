"""Topology -> kernel: namespaces, bridges, wires, addresses, routes. Links are set by pyroute2."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from fleet.errors import ForeignObject
from fleet.imports import bare
from fleet.machine import spaces, syscalls
from lab.topology import Bridge, Port, Topology

with bare("pyroute2"):
    from pyroute2.iproute import IPRoute

NAMESPACES = Path("/run/netns")
"""Where `ip netns` keeps its names."""
_IFA_F_NODAD = 0x02
Result = TypeVar("Result")


def inside(namespace: str, work: Callable[[], Result]) -> Result:
    """Do WORK in the network namespace; setns(2) moves one thread alone, so that thread is a fresh one."""

    def moved() -> Result:
        spaces.enter(NAMESPACES / namespace)
        return work()

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix=namespace) as pool:
        return pool.submit(moved).result()


@contextmanager
def beside(namespace: str, work: Callable[[threading.Event], None]) -> Iterator[None]:
    """While entered, WORK goes on in the network namespace; it ends when its event is set, and is waited for."""
    ending = threading.Event()
    thread = threading.Thread(target=lambda: inside(namespace, lambda: work(ending)), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def refuse_foreign(wanted: tuple[str, ...], ours: tuple[str, ...]) -> None:
    """Raise ForeignObject when a namespace that we need is there and no lab of ours has claimed it."""
    foreign = [name for name in wanted if (NAMESPACES / name).exists() and name not in ours]
    if foreign:
        raise ForeignObject(
            f"the network namespace {', '.join(foreign)} is in use by somebody else",
            hint=f"choose another lab name (--lab), or remove it: ip netns delete {foreign[0]}",
        )


def create(topology: Topology) -> None:
    """Make every host with its wires; the names must be free. Raises OSError or NetlinkError."""
    spaces.share(NAMESPACES)
    for host in topology.hosts:
        _create_namespace(topology.namespace(host))
        inside(topology.namespace(host), lambda host=host: _prepare(topology.sysctls(host)))  # type: ignore[misc]
    for bridge in topology.bridges:
        inside(topology.namespace(bridge.host), lambda bridge=bridge: _add_bridge(bridge))  # type: ignore[misc]
    inside(topology.namespace("isp"), lambda: _pull_wires(topology))
    for _, end in topology.wires:
        inside(topology.namespace(end.host), lambda end=end: _configure(end))  # type: ignore[misc]


def remove(names: tuple[str, ...]) -> None:
    """Remove namespaces by name, those that are there; their links go with them."""
    for name in names:
        spaces.remove(NAMESPACES / name)


def _create_namespace(name: str) -> None:
    def make() -> None:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        syscalls.bind(Path("/proc/thread-self/ns/net"), NAMESPACES / name)

    os.close(os.open(NAMESPACES / name, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400))
    with ThreadPoolExecutor(max_workers=1) as pool:
        pool.submit(make).result()


def _prepare(sysctls: dict[str, str]) -> None:
    for name, value in sysctls.items():
        Path("/proc/sys/net", name).write_text(value)
    with IPRoute() as kernel:
        kernel.link("set", index=1, state="up")


def _add_bridge(bridge: Bridge) -> None:
    with IPRoute() as kernel:
        kernel.link("add", ifname=bridge.name, kind="bridge")
        _finish(kernel, Port(host=bridge.host, name=bridge.name, addresses=bridge.addresses))


def _pull_wires(topology: Topology) -> None:
    with IPRoute() as kernel:
        for near, far in topology.wires:
            _pull(kernel, near, far, topology.namespace(far.host))
            _finish(kernel, near)


def _pull(kernel: IPRoute, near: Port, far: Port, namespace: str) -> None:
    descriptor = os.open(NAMESPACES / namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        kernel.link("add", ifname=near.name, kind="veth", peer={"ifname": far.name, "net_ns_fd": descriptor})
    finally:
        os.close(descriptor)


def _configure(port: Port) -> None:
    with IPRoute() as kernel:
        _finish(kernel, port)


def _finish(kernel: IPRoute, port: Port) -> None:
    """Addresses, bridge, up, default routes."""
    (index,) = kernel.link_lookup(ifname=port.name)
    for one in port.addresses:
        kernel.addr("add", index=index, address=str(one.ip), prefixlen=one.network.prefixlen, flags=_IFA_F_NODAD)
    if port.bridge is not None:
        kernel.link("set", index=index, master=kernel.link_lookup(ifname=port.bridge)[0])
    kernel.link("set", index=index, state="up")
    for gateway in port.gateways:
        kernel.route("add", dst="::/0" if gateway.version == 6 else "0.0.0.0/0", gateway=str(gateway), oif=index)
