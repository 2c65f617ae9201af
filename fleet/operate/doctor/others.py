"""Other things on this machine that affect the isolation: another fleet, and programs that give their caller rights."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from fleet.errors import ExitCode
from fleet.operate.doctor.check import Finding, check, error, ok, some, warning
from fleet.operate.doctor.machine import Case, Machine

_PLACES = ("/usr/*bin/*", "/usr/local/*bin/*", "/bin/*", "/sbin/*", "/usr/lib/*/*", "/usr/libexec/*", "/opt/*/*/*")
_NOBODY = 65534
_SESSION = re.compile(r"/user-([1-9]\d*)\.slice/session-[^/\s]+\.scope\b")
"""The control group of a login (pam_systemd(8)); logind leaves root's alone."""


@check("second-fleet", "two fleets in one network namespace would take each other's rules and tables for left-overs")
def second_fleet(case: Case) -> Finding:
    """Whether another fleet's netctl is in this network namespace; one in another namespace does not interfere."""
    answer = case.ours("netctl", "alone")
    if answer.code == ExitCode.TRY_LATER:
        return error(answer.words, answer.error.hint)
    mine = (None, str(case.paths.root))
    others = sorted({str(one.fleet_root) for one in case.processes if one.fleet_root not in mine})
    return ok(
        f"in other network namespaces: the fleets in {some(others)}" if others else "none in this network namespace"
    )


@check("logout", "logind may end all processes that a login has started when that login ends")
def logout(case: Case) -> Finding:
    """Whether the running fleet, or one started from here, ends with the login that started it."""
    process = case.machine.text(case.paths.supervisor_pid) if case.running else "self"
    login = _SESSION.search(case.machine.text(f"/proc/{process}/cgroup"))
    if login is None:
        return ok("the fleet does not belong to a login" if case.running else "this command does not belong to a login")
    if not _ends_with_login(case, login[1]):
        return ok("logind does not end what this login has started")
    return warning(
        f"a fleet that is started by hand ends when UID {login[1]} logs out (KillUserProcesses=yes in logind.conf)",
        "fleet down, then: systemctl enable --now fleet (deploy/fleet.service), or: systemd-run --scope fleet up",
    )


def _ends_with_login(case: Case, uid: str) -> bool:
    """Whether logind ends what the user UID has started (logind.conf(5), manager_shall_kill in logind-core.c)."""
    names = ("KillUserProcesses", "KillExcludeUsers", "KillOnlyUsers")
    said = case.ask("loginctl", "show-session", *(f"--property={name}" for name in names)).out.splitlines()
    told = {name: value.split() for name, _, value in (line.partition("=") for line in said)}
    user = case.ask("getent", "passwd", uid).out.partition(":")[0]
    only = told.get("KillOnlyUsers") or [user]
    return told.get("KillUserProcesses") == ["yes"] and user in only and user not in told.get("KillExcludeUsers", ())


@check("programs", "no rule of the fleet stops what a program under another UID sends for a worker")
def programs(case: Case) -> Finding:
    """Set-UID programs and file capabilities, and whether they take effect for a worker."""
    found = [f"/{path.relative_to(case.machine.root)}" for path in _giving_rights(case.machine)]
    words = f"{len(found)} programs give their caller another UID or a capability: {some(found)}"
    if not found:
        return ok("none in the usual folders gives its caller another UID or a capability")
    who = (f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups")
    if case.ask("setpriv", *who, "unshare", "--user", "true").code == 0:
        return ok(f"{words}; none of that takes effect for a worker")
    return warning(
        f"{words}; they take effect for a worker, because ordinary users may make no user namespaces here",
        "allow user namespaces; else chmod u-s those that nobody needs (find / -xdev -perm -4000), except "
        "chrome-sandbox",
    )


def _giving_rights(machine: Machine) -> Iterator[Path]:
    seen = set()
    for path in (path for pattern in _PLACES for path in machine.glob(pattern)):
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or (found.st_dev, found.st_ino) in seen:
            continue
        seen.add((found.st_dev, found.st_ino))
        if found.st_mode & stat.S_ISUID or _has_capabilities(path):
            yield path


def _has_capabilities(path: Path) -> bool:
    """Whether PATH has file capabilities (xattr(7), `security.capability`); an OSError means that it has none."""
    try:
        return bool(os.getxattr(path, "security.capability", follow_symlinks=False))
    except OSError:
        return False
