"""What browsers need from the machine: a sandbox, memory, descriptors, the right time, fonts, a driver that fits."""

from __future__ import annotations

import json
import os
import re
import resource
from pathlib import Path

from fleet.model import MOST_WORKERS
from fleet.operate import render
from fleet.operate.doctor.check import Finding, check, error, ok, some, warning
from fleet.operate.doctor.machine import NOT_THERE, Case

BROWSER_MEBIBYTES = 225
"""PSS of a browser on a simple page, with seven others running; heavy pages take 360."""
_KEPT_MEBIBYTES = 512
_FULL_MEBIBYTES, _LOW_MEBIBYTES = 16, 128
_HELPERS = ("/usr/lib/chromium/chrome-sandbox", "/opt/google/chrome/chrome-sandbox")
_PROFILES = "/etc/apparmor.d/*chrom*"
_FORBIDDEN = {
    "/proc/sys/kernel/unprivileged_userns_clone": "kernel.unprivileged_userns_clone=1",
    "/proc/sys/user/max_user_namespaces": "user.max_user_namespaces=15000",
}
_EMOJI = "1f3a7"
"""Headphones; ordinary fonts have some of the faces, but not this."""
_NOBODY = 65534
_SUPERVISOR_FILES = render.open_files(2 * MOST_WORKERS)
"""The most descriptors that supervisord asks for."""
_SET_USER = 0o4000
_REPLACED = " (deleted)"
"""proc_pid_exe(5)."""


@check("sandbox", "without Chrome's sandbox a page that breaks out of the browser has the worker's UID")
def sandbox(case: Case) -> Finding:
    """Chrome's sandbox needs user namespaces for ordinary users, or its set-UID helper."""
    machine = case.machine
    if not case.fleet.browser.sandbox:
        return warning("browser.sandbox is off in fleet.toml", "set browser.sandbox = true in fleet.toml")
    helper = next((path for path in _HELPERS if machine.at(path).exists()), "")
    if helper and machine.at(helper).stat().st_mode & _SET_USER:
        return ok(f"by {helper}, or by user namespaces")
    return _namespaces(case, helper)


def _namespaces(case: Case, helper: str) -> Finding:
    """User namespaces for ordinary users: reads the three settings that can forbid them, then tries to make one."""
    machine = case.machine
    for path, mends in _FORBIDDEN.items():
        if machine.number(path) == 0:
            return error(f"ordinary users may not make user namespaces ({path} is 0)", f"sysctl -w {mends}")
    if machine.number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == 1:
        if machine.glob(_PROFILES):
            return ok("user namespaces, by the browser's AppArmor profile")
        return error(
            "AppArmor denies user namespaces to programs without a profile, and the browser has no profile",
            "install Google Chrome's own package, or: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        )
    who = (f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups")
    answer = case.ask("setpriv", *who, "unshare", "--user", "--map-root-user", "true")
    if answer.code == 0:
        return ok("user namespaces for every user")
    return error(
        f"an ordinary user cannot make a user namespace: {answer.words}",
        f"chmod 4755 {helper}" if helper else "apt install chromium-sandbox, or allow user namespaces here",
    )


@check("browser", "a ChromeDriver drives only the Chrome of its own version")
def browser(case: Case) -> Finding:
    """Whether Chrome and ChromeDriver have the same version, by the worker's own check."""
    answer = case.with_settings("worker", "check", "--json")
    if answer.code:
        return error(answer.words, answer.error.hint or "install Google Chrome or chromium, and its ChromeDriver")
    found = json.loads(answer.out)
    if "/snap/" in str(case.machine.at(found["browser"]).resolve()):
        return error(
            f"{found['browser']} is a snap, which cannot run under a worker's UID",
            "install Google Chrome's own package and set browser.binary in fleet.toml",
        )
    return ok(f"{found['browser']} {found['version']}, {found['driver']} fits{_of_before(case)}")


def _of_before(case: Case) -> str:
    """The workers whose running browser has been replaced on the disk."""
    names = {worker.uid: worker.name for worker in case.fleet.members}
    before = {
        names[one.uid]
        for one in case.processes
        if one.uid in names and one.name.startswith("chrom") and case.machine.program(one.pid).endswith(_REPLACED)
    }
    return f"; {some(sorted(before))} run the previous one until their loops end" if before else ""


@check("fonts", "without them Korean, Japanese and Chinese pages, or emoji, are boxes in screenshots")
def fonts(case: Case) -> Finding:
    """Whether there is a font with Korean letters (these have Japanese and Chinese too), and one with emoji."""
    command = "apt install fonts-noto-cjk"
    answer = case.ask("fc-list", ":lang=ko", "family")
    if answer.code == NOT_THERE:
        if case.machine.glob("/usr/share/fonts/**/*CJK*"):
            return ok("font files with CJK in their name")
        return warning("fc-list is not installed, and no font file has CJK in its name", command)
    families = sorted({line.partition(",")[0] for line in answer.out.splitlines() if line.strip()})
    if not families:
        return warning("no font has Korean letters", command)
    if not case.ask("fc-list", f":charset={_EMOJI}", "family").out.strip():
        return warning("no font has emoji", "apt install fonts-noto-color-emoji")
    return ok(some(families, 1))


@check("shared-memory", "Chrome passes pictures through /dev/shm, and its profile lies in /tmp, which is memory")
def shared_memory(case: Case) -> Finding:
    """Whether memory and swap hold every worker's own /dev/shm and /tmp, both tmpfs."""
    machine, workers = case.machine, case.fleet.workers
    if not machine.at("/dev/shm").is_dir():  # noqa: S108 - looked at, not used
        return error("there is no folder /dev/shm, on which each worker's own is mounted", "mkdir /dev/shm")
    if "tmpfs" not in machine.text("/proc/filesystems"):
        return error("this kernel has no tmpfs", "another kernel: CONFIG_TMPFS")
    most = 2 * workers.tmp_mebibytes * workers.count
    total = machine.memory_mebibytes("MemTotal") + machine.memory_mebibytes("SwapTotal")
    text = f"every worker has its own; {workers.count} workers may fill {most} MiB of {total} MiB memory and swap"
    if total and most > total:
        return warning(text, "set workers.tmp_mebibytes lower in fleet.toml (a browser's cache lies there)")
    return ok(text)


@check("memory", "the kernel kills browsers when memory runs out")
def memory(case: Case) -> Finding:
    """Whether the browsers fit into memory; the kernel kills those that do not."""
    count, machine = case.fleet.workers.count, case.machine
    needed = count * BROWSER_MEBIBYTES + _KEPT_MEBIBYTES
    there = machine.memory_mebibytes("MemTotal") if case.running else machine.memory_mebibytes("MemAvailable")
    text = f"{count} browsers need about {needed} MiB, {there} MiB {'in all' if case.running else 'are available'}"
    if there and there < needed:
        fitting = max(1, (there - _KEPT_MEBIBYTES) // BROWSER_MEBIBYTES)
        return warning(text, f"set workers.count = {fitting} in fleet.toml, or give the machine more memory")
    return ok(text)


@check("room", "on a full disk results, logs and keys are lost, or loops cannot begin")
def room(case: Case) -> Finding:
    """Free space where the fleet writes: on a full disk every program runs, but nothing is stored."""
    paths = case.paths
    least, folder = min((_free_mebibytes(one), one) for one in (paths.state, paths.logs, paths.run))
    text, command = f"{least} MiB are free for {folder}", f"df -h {folder}; make room there"
    if least < _FULL_MEBIBYTES:
        return error(text, command)
    return warning(text, command) if least < _LOW_MEBIBYTES else ok(text)


def _free_mebibytes(place: Path) -> int:
    """Free space on the file system of PLACE, which need not exist yet."""
    found = os.statvfs(next(one for one in (place, *place.parents) if one.exists()))
    return found.f_bavail * found.f_frsize >> 20


@check("open-files", "a browser with a hundred requests holds hundreds of descriptors")
def open_files(case: Case) -> Finding:
    """Whether the kernel allows the limits that the launcher (workers.open_files) and supervisord set."""
    machine, each = case.machine, case.fleet.workers.open_files
    most = machine.number("/proc/sys/fs/nr_open") or 0
    everything = machine.number("/proc/sys/fs/file-max") or 0
    needed = max(each, _SUPERVISOR_FILES)
    text = f"{each} a worker; the kernel allows {most} a process, {everything} in all, and root {_hard_limit(case)}"
    if most and most < needed:
        return error(text, f"sysctl -w fs.nr_open={needed}")
    if _hard_limit(case) < needed and not _may_raise(case):
        return error(
            text, f"give the container or service a higher limit: LimitNOFILE={needed}, --ulimit nofile={needed}"
        )
    if everything and everything < each * case.fleet.workers.count:
        return warning(text, f"sysctl -w fs.file-max={each * case.fleet.workers.count}")
    return ok(text)


def _hard_limit(case: Case) -> int:
    found = re.search(r"^Max open files\s+\S+\s+(\d+)", case.machine.text("/proc/self/limits"), re.MULTILINE)
    return int(found[1]) if found else resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def _may_raise(case: Case) -> bool:
    """Whether we have CAP_SYS_RESOURCE (24 in linux/capability.h), which may raise hard limits."""
    found = re.search(r"^CapEff:\s+([0-9a-f]+)", case.machine.text("/proc/self/status"), re.MULTILINE)
    return bool(found and int(found[1], 16) >> 24 & 1)


@check("clock", "WireGuard's replay guard refuses a key from a host whose clock is behind its last user's")
def clock(case: Case) -> Finding:
    """Whether something synchronises the clock."""
    try:
        synchronised = case.machine.synchronised()
    except OSError as reason:
        return warning(f"cannot be asked: {reason}", "timedatectl status")
    if synchronised:
        return ok("synchronised")
    return warning(
        "no program synchronises it (the host of a virtual machine may do it)",
        "timedatectl set-ntp true, or: apt install chrony",
    )
