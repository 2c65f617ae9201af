"""The commands on the key pool. Root reads the files, then becomes netctl before the store is opened."""

from __future__ import annotations

import grp
import os
import pwd
import select
import stat
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from fleet import visible
from fleet.errors import ConfigurationError, UsageError
from fleet.model import ACCOUNT_GROUP, NETCTL_ACCOUNT, Paths
from netctl.plan.key import Key, sayable
from netctl.pool import conf
from netctl.pool.store import Imported, KeyLine, Store

CONF_BYTES = 65_536
"""A client file has some 300 bytes; more is no client file."""
READ_SECONDS = 60.0
"""Who pipes one in may have to type a password first."""
_KINDS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
    stat.S_ISSOCK: "a socket",
}


class Forgotten(NamedTuple):
    """Public keys: whose learned exit was forgotten, whose file names it, and those that are not in the pool."""

    learned: list[str]
    named: list[str]
    unknown: list[str]


def bring(names: Sequence[str], paths: Paths) -> Imported:
    """Import the files NAMES (`-` is standard input).

    Raises ConfigurationError with every mistake of every file; then nothing is imported.
    """
    keys: list[tuple[str, Key]] = []
    mistakes: list[str] = []
    for name in names:
        origin = "standard input" if name == "-" else sayable(name)
        try:
            text = _read(name)
        except (OSError, ValueError) as error:
            mistakes.append(f"{origin}: {error.strerror if isinstance(error, OSError) else error}")
            continue
        key, wrong = conf.parse(text, origin)
        mistakes += wrong
        if key is not None:
            # Bytes that are no letters have no place in a store of text.
            keys.append((origin if origin != name else visible.line(Path(name).name), key))
    if mistakes:
        raise ConfigurationError("\n".join(mistakes), hint="nothing was imported; correct these and repeat")
    with opened(paths) as store:
        return store.add(keys)


def listed(paths: Paths) -> list[KeyLine]:
    """Every key, nothing secret."""
    with opened(paths) as store:
        return store.lines()


def removed(publics: Sequence[str], paths: Paths) -> tuple[list[str], list[str], list[str]]:
    """Delete keys: those deleted, those leased (they stay), those unknown."""
    with opened(paths) as store:
        gone, leased = store.remove(publics)
    return gone, leased, _unknown(publics, {*gone, *leased})


def forgotten(publics: Sequence[str] | None, paths: Paths) -> Forgotten:
    """Forget the learned exits of these keys, or of all."""
    with opened(paths) as store:
        known = {line.public_key for line in store.lines()}
        learned, named = store.forget_exits(publics)
    return Forgotten(learned, named, _unknown(publics or (), known))


def _unknown(words: Sequence[str], known: Collection[str]) -> list[str]:
    """Those of WORDS that are no key of the pool, by their places: they may be private keys."""
    return [f"word {number}" for number, word in enumerate(words, 1) if word not in known]


def as_json(line: KeyLine) -> dict[str, JsonValue]:
    """A key for `keys list --json`."""
    values = {**asdict(line), "learned_at": line.learned_at and line.learned_at.isoformat()}
    return {name: value if value is None else str(value) for name, value in values.items()}


@contextmanager
def opened(paths: Paths) -> Iterator[Store]:
    """The store, opened as its owner: root lends itself netctl's identity, so that files stay netctl's."""
    with _as_netctl(paths):
        store = Store(paths.key_store)
        try:
            yield store
        finally:
            store.close()


@contextmanager
def _as_netctl(paths: Paths) -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    uid, gid = _identity()
    _prepare(paths.key_store.parent, uid)
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(gid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def _identity() -> tuple[int, int]:
    try:
        return pwd.getpwnam(NETCTL_ACCOUNT).pw_uid, grp.getgrnam(ACCOUNT_GROUP).gr_gid
    except KeyError:
        raise ConfigurationError(
            f"there is no account {NETCTL_ACCOUNT!r} to own the key store", hint="sudo fleet accounts make --netctl"
        ) from None


def _prepare(folder: Path, uid: int) -> None:
    folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != uid:
        os.chown(folder, uid, -1)


def _read(name: str) -> str:
    """The text of a client file; raises OSError, or ValueError saying what is wrong with it."""
    if name == "-":
        if sys.stdin.isatty():
            raise UsageError("standard input is a terminal", hint="name the files, or pipe one in")
        data = _bounded(sys.stdin.fileno())
    else:
        # Without waiting: to open a FIFO that nobody writes to would take for ever.
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                kind = next((word for is_one, word in _KINDS.items() if is_one(mode)), "something else")
                raise ValueError(f"is no file but {kind}; what comes out of a program is read from standard input: -")
            data = _bounded(descriptor)
        finally:
            os.close(descriptor)
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ValueError("is no text") from None


def _bounded(descriptor: int) -> bytes:
    """All of it; raises ValueError where it is too long, or has no end."""
    data, end = b"", time.monotonic() + READ_SECONDS
    while len(data) <= CONF_BYTES:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            raise ValueError(f"did not end within {READ_SECONDS:g} s")
        if not (chunk := os.read(descriptor, CONF_BYTES + 1)):
            return data
        data += chunk
    raise ValueError("is too long for a WireGuard client file")
