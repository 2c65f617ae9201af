"""The real grounds with a network namespace for each worker: what is different about them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Literal

from fleet import spaces
from fleet.model import Fleet, Worker
from netctl.host import Host
from netctl.kernel.spaces import Spaces
from netctl.wireguard.contract import WireGuard
from netctl.wireguard.kernel_module import KernelWireGuard
from tests.contract.ground import AnyKernel
from tests.contract.teller import ask
from tests.contract.wired import Wired, run


class Spaced(Wired):
    """A Wired whose workers have spaces; the names lie in a folder of its own."""

    isolation = "netns"

    def __init__(self, name: Literal["userspace", "kernel"]) -> None:
        super().__init__(name)
        self._names = self._folder / "netns"
        self._spaces = Spaces(self._names)
        self._there: list[Worker] = []
        self.wireguard: WireGuard = KernelWireGuard(self._spaces) if name == "kernel" else self.wireguard

    def __exit__(self, *_: object) -> None:
        self._spaces.close()
        spaces.clear(self._names)
        super().__exit__()

    def kernel(self, fleet: Fleet) -> AbstractAsyncContextManager[AnyKernel]:
        return Host(self.wireguard, fleet, self._spaces)

    def _path(self, worker: Worker) -> Path:
        return self._names / worker.space

    def _into(self, worker: Worker) -> tuple[str, ...]:
        return "nsenter", f"--net={self._path(worker)}"

    @contextlib.contextmanager
    def space(self, worker: Worker) -> Iterator[None]:
        spaces.make(self._path(worker))
        self._there.append(worker)
        try:
            yield
        finally:
            self._there.remove(worker)
            spaces.remove(self._path(worker))

    def _end_device(self, interface: str) -> None:
        super()._end_device(interface)
        for worker in self._there:  # a link of the kernel's has moved there, and has no program that ends
            argv = [*self._into(worker), "ip", "link", "delete", interface]
            subprocess.run(argv, capture_output=True, check=False)

    def seen_as(self, worker: Worker) -> IPv4Address | None:
        if worker not in self._there:
            return super().seen_as(worker)
        found: list[IPv4Address | None] = []

        def asked() -> None:
            spaces.enter(self._path(worker))
            found.append(ask(worker.uid))

        thread = threading.Thread(target=asked)  # setns(2) moves one thread alone
        thread.start()
        thread.join()
        return found[0]

    def lead_astray(self, worker: Worker) -> None:
        way = ("default", "dev", "lo", "table", str(worker.table), "proto", "77")
        run(*self._into(worker), "ip", "route", "replace", *way)

    def flush(self, what: str) -> None:
        super().flush(what)
        for worker in self._there:
            if what == "tables":
                run(*self._into(worker), "nft", "flush", "ruleset")
            else:
                run(*self._into(worker), "ip", "-4", "rule", "flush")
                run(*self._into(worker), "ip", "-6", "rule", "flush")

    @contextlib.contextmanager
    def address_events(self, *ip: str) -> Iterator[list[str]]:
        """Of the host, and of the first worker's own namespace."""
        heard: list[str] = []
        with self._path(self._there[0]).open() as kept:  # however soon the name goes
            into = ("nsenter", f"--net=/proc/{os.getpid()}/fd/{kept.fileno()}", "ip")
            with super().address_events() as in_host, super().address_events(*into) as inside:
                yield heard
        heard += in_host + inside
