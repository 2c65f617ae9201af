"""Drop-ins that keep systemd-networkd and NetworkManager off our rules, routes and interfaces.

networkd removes rules and routes that it did not make when it reconfigures an interface or gets another address
(measured: systemd 252). From systemd 249 both settings default to yes (networkd.conf(5); systemd issues 19106, 22077).
NetworkManager may configure an interface that is new to it. Both read drop-ins below /etc; this module also reads those
below FLEET_ROOT.
"""

from __future__ import annotations

import configparser
import fnmatch
from collections.abc import Iterable, Iterator
from pathlib import Path

from fleet.machine.files import write_durably
from fleet.model import Fleet
from fleet.operate.doctor.check import Finding, check, ok, some, warning
from fleet.operate.doctor.machine import Case
from fleet.operate.folders import Folder, make

NETWORKD = "etc/systemd/networkd.conf.d/50-fleet.conf"
NETWORK_MANAGER = "etc/NetworkManager/conf.d/50-fleet.conf"
_FOREIGN = ("ManageForeignRoutingPolicyRules", "ManageForeignRoutes")
_NO = ("no", "false", "off", "0", "n", "f")
"""systemd.syntax(7)."""
_KINDS = ("type:wireguard", "type:tun")


def networkd_text() -> str:
    """The drop-in for systemd-networkd."""
    lines = "".join(f"{key}=no\n" for key in _FOREIGN)
    return (
        "# Made by `fleet doctor --fix`; deploy/networkd.conf is the same.\n"
        "# systemd-networkd must not remove the fleet's rules and routes.\n"
        f"[Network]\n{lines}"
    )


def network_manager_text(fleet: Fleet) -> str:
    """The drop-in for NetworkManager: the fleet's interfaces by name, so that an operator's own wg0 stays managed."""
    names = ";".join(f"interface-name:{name}" for name in fleet.interfaces)
    return (
        "# Made by `fleet doctor --fix`; again when workers.count or workers.first_uid has changed.\n"
        f"[keyfile]\nunmanaged-devices+={names}\n"
    )


def install_networkd(case: Case) -> str:
    """Write the drop-in for systemd-networkd; returns what was done and what remains to be done."""
    path = _install(case.paths.root / NETWORKD, networkd_text())
    return f"wrote {path}; to apply it: fleet down, then systemctl restart systemd-networkd"


def install_network_manager(case: Case) -> str:
    """The same for NetworkManager."""
    path = _install(case.paths.root / NETWORK_MANAGER, network_manager_text(case.fleet))
    return f"wrote {path}; to apply it: systemctl reload NetworkManager"


def _install(path: Path, text: str) -> Path:
    make(Folder(path=path.parent))
    write_durably(path, text.encode(), 0o644)
    return path


@check(
    "networkd",
    "systemd-networkd removes other programs' rules and routes when it reconfigures an interface or gets another "
    "address: workers are cut off until netctl has restored them",
)
def networkd(case: Case) -> Finding:
    """Whether networkd runs here, is configured to leave foreign rules and routes alone, and has read that."""
    started = _started(case, "systemd-network")
    if started is None:
        return ok("does not run here")
    if case.fleet.isolation == "netns":
        return ok("runs; each worker has its rules and routes in its own namespace, where networkd removes none")
    settings = _networkd_settings(case)
    missing = [key for key in _FOREIGN if settings.get(key, ("yes", None))[0].lower() not in _NO]
    late = [f"{key} in {settings[key][1]}" for key in missing if key in settings and _comes_late(settings[key][1])]
    if late:
        return warning(
            f"runs, and reads {some(late)} after the fleet's drop-in", "take that out, then: fleet doctor --fix"
        )
    if missing:
        return warning(
            f"runs, and {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set to no",
            "fleet doctor --fix, then fleet down, then: systemctl restart systemd-networkd",
            fixable=True,
        )
    file = case.paths.root / NETWORKD
    if file.exists() and file.stat().st_mtime > started:
        seen = f"{file} is there, and newer than the running program"
        return warning(seen, "fleet down, then: systemctl restart systemd-networkd")
    return ok("runs, and leaves foreign rules and routes alone")


@check("networkmanager", "NetworkManager may put addresses on a tunnel or take it down: all workers' page loads fail")
def network_manager(case: Case) -> Finding:
    """Whether NetworkManager runs here and leaves the fleet's interfaces alone."""
    started = _started(case, "NetworkManager")
    if started is None:
        return ok("does not run here")
    if case.fleet.isolation == "netns":
        return ok("runs; each tunnel is in its worker's own namespace, where NetworkManager manages nothing")
    specs = _unmanaged(case)
    managed = [name for name in case.fleet.interfaces if not matches(specs, name)]
    if managed:
        return warning(
            f"runs, and may manage {some(managed)}",
            "fleet doctor --fix, then: systemctl reload NetworkManager",
            fixable=True,
        )
    # A reload does not change the start time, so it cannot be compared with the file's.
    return ok("runs, and leaves the fleet's interfaces alone")


def matches(specs: Iterable[str], interface: str) -> bool:
    """Whether NetworkManager's device list SPECS holds INTERFACE (NetworkManager.conf(5), Device List Format)."""
    held = False
    for spec in specs:
        kept = spec.removeprefix("except:")
        hit = kept == "*" or _names(kept, interface)
        if kept != spec and (hit or kept in _KINDS):
            return False
        held |= hit
    return held


def _names(spec: str, interface: str) -> bool:
    kind, _, name = spec.partition(":")
    if kind != "interface-name":
        return False
    if name.startswith("="):
        return name[1:] == interface
    # fnmatch also has ranges ([a-z]), which NetworkManager has not; no real interface name contains one.
    return fnmatch.fnmatchcase(interface, name.removeprefix("~"))


def _started(case: Case, name: str) -> float | None:
    return max((process.started for process in case.processes if process.name == name), default=None)


def _roots(case: Case) -> Iterator[Path]:
    yield case.machine.root
    if case.paths.root != case.machine.root:
        yield case.paths.root


def _drop_ins(case: Case, folders: tuple[str, ...]) -> list[tuple[int, Path]]:
    """Each drop-in: the index of its folder in FOLDERS, and its path. A later folder's file replaces its namesake."""
    named: dict[str, tuple[int, Path]] = {}
    for root in _roots(case):
        for rank, folder in enumerate(folders):
            named.update({path.name: (rank, path) for path in (root / folder).glob("*.conf")})
    return [named[name] for name in sorted(named)]


def _comes_late(path: Path) -> bool:
    """Whether networkd reads PATH after our drop-in, so that PATH wins."""
    ours = Path(NETWORKD)
    return path.parent.name == ours.parent.name and path.name > ours.name


def _networkd_settings(case: Case) -> dict[str, tuple[str, Path]]:
    """Each setting and its file: the main file, then the drop-ins by name; the last one wins (networkd.conf(5))."""
    folders = ("usr/lib/systemd/networkd.conf.d", "run/systemd/networkd.conf.d", "etc/systemd/networkd.conf.d")
    main = [root / "etc/systemd/networkd.conf" for root in _roots(case)]
    found: dict[str, tuple[str, Path]] = {}
    for path in (*main, *(path for _, path in _drop_ins(case, folders))):
        found.update({key: (value, path) for key, value in _section(path, "Network").items()})
    return found


def _unmanaged(case: Case) -> list[str]:
    """The specs of `unmanaged-devices`, as NetworkManager.conf(5) reads: /usr/lib, /run, the main file, /etc."""
    folders = ("usr/lib/NetworkManager/conf.d", "run/NetworkManager/conf.d", "etc/NetworkManager/conf.d")
    drop_ins = sorted(_drop_ins(case, folders))
    first = [path for rank, path in drop_ins if rank < 2]
    last = [path for rank, path in drop_ins if rank == 2]
    main = [root / "etc/NetworkManager/NetworkManager.conf" for root in _roots(case)]
    found: list[str] = []
    for path in (*first, *main, *last):
        for key, value in _section(path, "keyfile").items():
            specs = [spec.strip() for spec in value.replace(",", ";").split(";") if spec.strip()]
            if key == "unmanaged-devices":
                found = specs
            elif key == "unmanaged-devices+":
                found += specs
            elif key == "unmanaged-devices-":
                found = [spec for spec in found if spec not in specs]
    return found


def _section(path: Path, name: str) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",), comment_prefixes=("#", ";"))
    parser.optionxform = str  # type: ignore[method-assign,assignment]  # keys keep their case
    try:
        parser.read_string(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, configparser.Error):
        return {}
    return dict(parser[name]) if parser.has_section(name) else {}
