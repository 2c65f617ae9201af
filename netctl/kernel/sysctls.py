"""The few files below /proc/sys that netctl reads and writes.

With CAP_NET_ADMIN in the network namespace an ordinary user may write net sysctls (net_ctl_permissions
in net/sysctl_net.c).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fleet.errors import FleetError
from fleet.isolation import HOST
from netctl.plan.desired import addr_gen_mode, disable_ipv6, rp_filter
from netctl.plan.things import Sysctl

ROOT = Path("/proc/sys")


def observe(interfaces: set[str], space: str = HOST) -> Iterator[Sysctl]:
    """Reverse path filtering of every interface, and how IPv6 is set on INTERFACES, in SPACE, where we are."""
    for folder in (ROOT / "net/ipv4/conf").iterdir():
        value = _read(rp_filter(folder.name, 0))
        if value is not None:
            yield rp_filter(folder.name, value, space)
    for interface in interfaces:
        for wanted in (addr_gen_mode(interface, space), disable_ipv6(interface, space)):
            value = _read(wanted)
            if value is not None:
                yield replace(wanted, value=value)


def write(sysctl: Sysctl) -> None:
    """Set it; an interface that has gone in the meantime is no error."""
    path = ROOT.joinpath(*sysctl.path)
    try:
        path.write_text(str(sysctl.value))
    except FileNotFoundError:
        return
    except OSError as error:
        raise FleetError(
            f"{path} cannot be set to {sysctl.value}: {error.strerror}",
            hint="a read-only /proc/sys (a container?) has to be made writable",
        ) from error


def _read(sysctl: Sysctl) -> int | None:
    try:
        return int(ROOT.joinpath(*sysctl.path).read_text())
    except (OSError, ValueError):
        return None  # the interface has just gone
