"""The fleet itself: its settings, its accounts, and what an earlier run left in the kernel."""

from __future__ import annotations

import json
import re

from fleet.errors import ExitCode
from fleet.model import ACCOUNT_GROUP, NETCTL_ACCOUNT, Worker
from fleet.operate.doctor.check import Finding, check, error, ok, some, warning
from fleet.operate.doctor.machine import Case

_WORKER = re.compile(r"w\d+:")
ROOM = 64
"""How many UIDs after the last worker's are checked: more workers would need them."""


@check("settings", "everything is derived from fleet.toml")
def settings(case: Case) -> Finding:
    """Whether fleet.toml exists and is valid."""
    path = case.paths.config
    if not path.exists():
        return warning(
            f"{path} is not there; everything below is checked with the defaults",
            f"install -D -m 644 docs/fleet.example.toml {path}, then edit it",
        )
    if case.configuration:
        return error(case.configuration, f"edit {path}; docs/fleet.example.toml explains every key")
    return ok(f"{path}: {case.fleet.workers.count} workers")


@check("task", "a mistake in it fails every loop of every worker")
def task(case: Case) -> Finding:
    """Whether the workers accept [task]; a task of the operator's own checks its own options."""
    if case.configuration or not case.paths.config.exists():
        return _without_settings()
    if not case.fleet.loops_task:
        return ok("only jobs")
    answer = case.task()
    if answer.code:
        return error(answer.words, answer.error.hint or f"edit {case.paths.config}; docs/watch.md says what there is")
    return ok(case.fleet.task.run)


@check("accounts", "the kernel tells workers apart by UID: rules on another person's UID would block that person")
def accounts(case: Case) -> Finding:
    """Whether every worker's UID and name are free or already ours, and no foreign process runs under them."""
    members = {worker.uid: worker for worker in case.fleet.members}
    first, last = min(members), max(members)
    names = [
        NETCTL_ACCOUNT,
        *map(str, range(last + 1, last + ROOM)),
        *(word for worker in members.values() for word in (str(worker.uid), worker.name)),
    ]
    known = {line for line in case.ask("getent", "passwd", *names).out.splitlines() if line.count(":") == 6}
    asked = {NETCTL_ACCOUNT, *(worker.name for worker in members.values())}
    entries = {one for one in known if int(one.split(":")[2]) <= last or one.split(":")[0] in asked}
    others = [one.split(":") for one in known - entries if not _WORKER.match(one)]
    after = sorted((int(uid), name) for name, _, uid, *_ in others)
    group = case.ask("getent", "group", ACCOUNT_GROUP).out.split(":")
    gid = group[2] if len(group) > 2 else ""
    if any(entry.startswith(f"{NETCTL_ACCOUNT}:") and entry.split(":")[3] != gid for entry in entries):
        return error(
            f"the account {NETCTL_ACCOUNT} is in another group than {ACCOUNT_GROUP}",
            f"if nobody needs it: userdel {NETCTL_ACCOUNT}; else: usermod --gid {ACCOUNT_GROUP} {NETCTL_ACCOUNT}",
        )
    held = [text for entry in sorted(entries) if (text := _taken(entry, members, gid))]
    ours = {int(entry.split(":")[2]) for entry in entries} & set(members)
    # Processes that are not this fleet's: another fleet's, or a person's.
    mine = (None, str(case.paths.root))
    held += [
        process.words
        for process in case.processes
        if process.uid in members and (process.fleet_root not in mine or process.uid not in ours)
    ]
    if held:
        return error(some(held, between="; "), "set workers.first_uid in fleet.toml to a free range")
    lines = [line for file in ("subuid", "subgid") for line in case.machine.text(f"/etc/{file}").splitlines()]
    delegated = [name for name in (line.split(":")[0] for line in lines) if name in {w.name for w in members.values()}]
    if delegated:
        return error(
            f"{some(delegated)} may use other UIDs, which no rule of netctl covers (/etc/subuid)",
            "take those lines out of /etc/subuid and /etc/subgid",
        )
    missing = len(members) - len(ours)
    words = f"UIDs {first} to {last} are ours{f' or free; fleet up makes {missing} accounts' if missing else ''}"
    # useradd(8) continues from the highest UID, which is a worker's.
    close = [f"; {uid} is {name}'s: from {first} on there is room for {uid - first}" for uid, name in after[:1]]
    return ok("".join([words, *close]))


def _taken(entry: str, members: dict[int, Worker], gid: str) -> str:
    name, _, uid, primary = entry.split(":")[:4]
    worker = members.get(int(uid))
    if primary == gid and name in (NETCTL_ACCOUNT, worker.name if worker is not None else ""):
        return ""
    return f"UID {uid} is {name}'s"


@check(
    "foreign-objects",
    "netctl never changes an object that is not its own, and refuses to start while one is in its place",
)
def foreign(case: Case) -> Finding:
    """Whether objects of other programs use our marks; netctl would refuse to start and names them."""
    if case.configuration or not case.paths.config.exists():
        return _without_settings()
    answer = case.with_settings("netctl", "plan", "--json")
    if answer.code in (ExitCode.DONE, ExitCode.WOULD_CHANGE):
        return ok("no object of another program is inside the fleet's marks")
    return error(answer.words, answer.error.hint or "netctl plan")


def _without_settings() -> Finding:
    return warning("cannot be checked without settings", "write fleet.toml, then fleet doctor again")


@check("left-over", "objects that an earlier run left in the kernel still block its UIDs")
def left_over(case: Case) -> Finding:
    """Links, rules, routes and tables of a run that has ended, as netctl's clean-up would remove them."""
    if case.running:
        return ok("the fleet is running: what is in the kernel is in use")
    answer = case.ours("netctl", "cleanup", "--dry-run", "--json")
    if answer.code == ExitCode.CONFIGURATION and (case.configuration or not case.paths.config.exists()):
        return _without_settings()
    if answer.code not in (ExitCode.DONE, ExitCode.WOULD_CHANGE):
        return error(f"netctl cannot check this: {answer.words}", answer.error.hint or "netctl cleanup --dry-run")
    lines = json.loads(answer.out)
    if not lines:
        return ok("nothing is left of an earlier run")
    return warning(some(lines, between="; "), "netctl cleanup", fixable=True)


def clean_up(case: Case) -> str:
    """Let netctl remove what is left; returns what it was. Raises netctl's own error."""
    answer = case.ours("netctl", "cleanup")
    if answer.code:
        raise answer.error
    return f"removed: {'; '.join(answer.out.splitlines())}"
