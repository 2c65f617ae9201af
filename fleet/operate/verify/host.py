"""What `fleet verify` has to know of the host: its way out, its own addresses, whom it asks for names."""

from __future__ import annotations

import ipaddress
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from fleet.errors import FleetError
from fleet.programs import SEARCH_PATH

NOBODYS = ipaddress.IPv4Network("192.0.2.0/24")
"""For documentation (RFC 5737): routed by default, and nobody is there."""
NOBODYS_V6 = ipaddress.IPv6Network("2001:db8:ffff::/64")
"""The same (RFC 3849)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """This machine as a worker must not use it."""

    uplink: str
    """The interface of the default route; "": there is none."""
    gateway: str
    address: str
    """The address it has on its own network."""
    resolvers: tuple[str, ...]
    """From resolv.conf, those on loopback left out: they are not asked by packets that leave."""


def look(resolv_conf: Path = Path("/etc/resolv.conf")) -> Host:
    """The host as it is now; raises FleetError when `ip` does not say."""
    route = _route(4, str(NOBODYS[1]))
    return Host(
        uplink=route.get("dev", "") or _route(6, str(NOBODYS_V6[1])).get("dev", ""),
        gateway=route.get("gateway", ""),
        address=route.get("prefsrc", ""),
        resolvers=tuple(_resolvers(resolv_conf)),
    )


def _route(family: int, target: str) -> dict[str, str]:
    """Where the host sends what is for TARGET; empty when it has no way."""
    try:
        done = subprocess.run(
            ["ip", f"-{family}", "-json", "route", "get", target],
            env={"PATH": SEARCH_PATH, "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FleetError(f"ip does not say where the default route is: {error}", hint="install iproute2") from error
    found = cast("list[dict[str, str]]", json.loads(done.stdout or "[]")) if done.returncode == 0 else []
    return found[0] if found and found[0].get("type", "unicast") == "unicast" else {}


def _resolvers(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for words in map(str.split, lines):
        if len(words) >= 2 and words[0] == "nameserver":
            try:
                address = ipaddress.ip_address(words[1])
            except ValueError:
                continue  # with a zone: a link-local resolver
            if not address.is_loopback:
                found.append(str(address))
    return found
