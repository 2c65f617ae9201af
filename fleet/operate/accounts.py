"""The accounts under which everything runs: group `fleet`; users `netctl`, `fleet-hub`, `fleet-keys`, one per worker.

The kernel tells workers apart by UID, so a UID that belongs to another user is never taken: the fleet's
rules would block that user. Making accounts is idempotent, and quick when they exist.
"""

from __future__ import annotations

import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from fleet import log
from fleet.errors import ConfigurationError, TryLater
from fleet.machine import lockfile
from fleet.model import (
    ACCOUNT_GROUP,
    HUB_ACCOUNT,
    KEYS_ACCOUNT,
    LAST_UID,
    MOST_WORKERS,
    NETCTL_ACCOUNT,
    Fleet,
    Worker,
)
from fleet.programs import PLAIN_ENVIRONMENT, call
from fleet.sockets.callers import group_number

LOCK = Path("/run/fleet-accounts.lock")
"""One per machine and not per FLEET_ROOT, as /etc/passwd is. Only root can open it, or make a file in its folder: a
user who can open a file can hold its lock, and /run/lock is open to every user."""
_DEADLINE_SECONDS = 60.0
_OF_ITS_OWN = {HUB_ACCOUNT: "fleet's hub", KEYS_ACCOUNT: "fleet's key service"}
"""Accounts that have a group of their own, because they may read what workers may not."""
_log = log.get("fleet")


def ensure(fleet: Fleet) -> list[str]:
    """Make the missing accounts and return their names.

    Raises ConfigurationError, before any change, naming every other user who holds a needed UID or name.
    """
    with _one_at_a_time():
        taken = [text for worker in fleet.members if (text := _holder(worker))]
        if taken:
            raise ConfigurationError("\n".join(taken), hint="change workers.first_uid in fleet.toml to a free range")
        keys = [KEYS_ACCOUNT] if fleet.keys.source else []
        return [*_make_netctl(), *_make_own(HUB_ACCOUNT, *keys), *_make_workers(fleet), *_reserve(fleet)]


def ensure_netctl() -> list[str]:
    """Make the group and netctl's account, which the key store needs before there are settings; returns names made."""
    with _one_at_a_time():
        return list(_make_netctl())


def ensure_hub() -> list[str]:
    """The same, and the hub's account, which owns its database."""
    with _one_at_a_time():
        return [*_make_netctl(), *_make_own(HUB_ACCOUNT)]


def remove() -> list[str]:
    """Delete every account of the fleet and return the names; files that they own are not touched.

    Raises TryLater, before any change, while one of them has a process, also one of another fleet (network namespace).
    """
    with _one_at_a_time():
        group = group_number(ACCOUNT_GROUP)
        if group is None:
            return []
        names = [entry.pw_name for entry in pwd.getpwall() if entry.pw_gid == group and _ours(entry)]
        names += [name for name in _OF_ITS_OWN if _exists(name, name)]
        running = psutil.process_iter(["username"])
        if busy := [f"{one.pid} ({one.info['username']})" for one in running if one.info["username"] in names]:
            hint = "end the fleet that they work for: FLEET_ROOT=... fleet down"
            raise TryLater(f"accounts of the fleet are in use: processes {', '.join(busy)}", hint=hint)
        for name in names:
            _run("userdel", name)
        groups = [one for one in (*_OF_ITS_OWN, ACCOUNT_GROUP) if group_number(one) is not None]
        for name in groups:  # where login.defs says so, userdel has removed a user's own group already
            _run("groupdel", name)
        return [*dict.fromkeys([*names, *groups])]


def netctl_exists() -> bool:
    """Whether netctl's account exists; without it the fleet has nothing in the kernel."""
    return group_number(ACCOUNT_GROUP) is not None and _exists(NETCTL_ACCOUNT)


def _make_netctl() -> Iterator[str]:
    if group_number(ACCOUNT_GROUP) is None:
        _run("groupadd", "--system", ACCOUNT_GROUP)
        yield ACCOUNT_GROUP
    if not _exists(NETCTL_ACCOUNT):
        _add(NETCTL_ACCOUNT, "fleet's network helper")
        yield NETCTL_ACCOUNT


def _make_own(*names: str) -> Iterator[str]:
    """Make each account with a group of its own; the hub's group may read what workers hand in."""
    for name in names:
        if not _exists(name, name):
            if group_number(name) is None:
                _run("groupadd", "--system", name)
            _add(name, _OF_ITS_OWN[name], group=name)
            yield name


def _make_workers(fleet: Fleet) -> Iterator[str]:
    for worker in fleet.members:
        if not _exists(worker.name):
            _add(worker.name, "fleet worker", "--uid", str(worker.uid))
            yield worker.name


def _reserve(fleet: Fleet) -> Iterator[str]:
    """Make the account of the last worker that FLEET can ever have, if its UID and name are free.

    useradd(8) gives a new user the number after the highest in use. With this account that is no worker's UID, so the
    fleet can grow.
    """
    last = Worker(uid=min(fleet.workers.first_uid + MOST_WORKERS - 1, LAST_UID))
    if not _holder(last) and not _exists(last.name):
        _add(last.name, "fleet worker", "--uid", str(last.uid))
        yield last.name


def _add(name: str, comment: str, *uid: str, group: str = ACCOUNT_GROUP) -> None:
    # --system, because an ordinary account gets subordinate UIDs: through newuidmap a worker could then send
    # under a UID that no rule of the fleet covers.
    nowhere = ("--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin")
    _run("useradd", "--system", *uid, "--gid", group, *nowhere, "--comment", comment, name)
    _log.debug("account.made", account=name)


def _holder(worker: Worker) -> str:
    """Why WORKER's UID or name cannot be used; empty when it is free or already the worker's."""
    hold = f"UID {worker.uid}"
    try:
        entry = pwd.getpwuid(worker.uid)
    except KeyError:
        try:
            entry, hold = pwd.getpwnam(worker.name), f"the account {worker.name}"
        except KeyError:
            return ""
    if entry.pw_name == worker.name and entry.pw_uid == worker.uid and entry.pw_gid == group_number(ACCOUNT_GROUP):
        return ""
    return f"{hold} is needed for worker {worker.name} but belongs to {entry.pw_name!r} (UID {entry.pw_uid})"


def _ours(entry: pwd.struct_passwd) -> bool:
    worker = Worker.named(entry.pw_name)
    return (worker is not None and worker.uid == entry.pw_uid) or entry.pw_name == NETCTL_ACCOUNT


def _exists(name: str, group: str = ACCOUNT_GROUP) -> bool:
    """Whether account NAME exists; raises ConfigurationError when its primary group is not GROUP."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return False
    if entry.pw_gid != group_number(group):
        raise ConfigurationError(
            f"the account {name!r} exists with primary group {entry.pw_gid}, not {group!r}",
            hint=f"if nobody needs it: userdel {name}; else: usermod --gid {group} {name}",
        )
    return True


def _run(*command: str) -> None:
    # The standard error of these tools is readable and names the account.
    call(command, PLAIN_ENVIRONMENT, deadline_seconds=_DEADLINE_SECONDS)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Hold LOCK, so that two commands at once wait for each other; the kernel ends it with its holder."""
    with lockfile.waited_for(LOCK):
        yield
