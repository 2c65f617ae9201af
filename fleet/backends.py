"""The differences between the WireGuard backends, one row each; netctl/wireguard has a file for each.

kernel       the kernel's own WireGuard: netctl makes the links
userspace    one process per worker, which makes its own link; for kernels without WireGuard
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Name = Literal["kernel", "userspace"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One kind of WireGuard device."""

    name: Name
    link_kind: str
    """As `ip -details link` shows it."""
    program: tuple[str, ...] = ()
    """The command that runs one device, without the link's name; () for the kernel's devices.

    The supervisor runs one for each worker. It makes the link itself, which ends with it, and it outlives netctl.
    """
    device: Path | None = None
    """The character device that the program opens."""
    sockets: Path | None = None
    """The folder of the programs' sockets; the same in every network namespace."""
    inotify_instances: int = 0
    """How many each program takes. All programs run as one user, and a user may have a limited number."""

    @property
    def makes_links(self) -> bool:
        """Whether netctl makes the links; if not, it waits for the programs to make them."""
        return not self.program


def wireguard_go() -> str:
    """The name of wireguard-go's program; the package of Ubuntu 22.04 calls it `wireguard`."""
    return next(filter(shutil.which, ("wireguard-go", "wireguard")), "wireguard-go")


KERNEL = Backend(name="kernel", link_kind="wireguard")
USERSPACE = Backend(
    name="userspace",
    link_kind="tun",
    program=(wireguard_go(), "-f"),
    device=Path("/dev/net/tun"),
    sockets=Path("/run/wireguard"),
    inotify_instances=1,
)
BACKENDS: dict[str, Backend] = {one.name: one for one in (KERNEL, USERSPACE)}
"""All there are, the preferred one first."""


def makes_links(link_kind: str) -> bool:
    """Whether netctl makes links of LINK_KIND."""
    return any(one.makes_links for one in BACKENDS.values() if one.link_kind == link_kind)
