"""The commands on the key pool. Root reads the files, then becomes netctl before the store is opened."""

from __future__ import annotations

import grp
import os
import pwd
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from pydantic import JsonValue

from fleet import visible
from fleet.errors import ConfigurationError
from fleet.model import ACCOUNT_GROUP, NETCTL_ACCOUNT, Paths
from netctl.plan.key import Key
from netctl.pool import conf
from netctl.pool.store import Imported, KeyLine, Store

CONF_BYTES = 65_536
"""A client file has some 300 bytes; more is no client file."""


def bring(names: Sequence[str], paths: Paths) -> Imported:
    """Import the files NAMES (`-` is standard input).

    Raises ConfigurationError with every mistake of every file; then nothing is imported.
    """
    keys: list[tuple[str, Key]] = []
    mistakes: list[str] = []
    for name in names:
        origin = "standard input" if name == "-" else name
        try:
            text = _read(name)
        except (OSError, ValueError) as error:
            mistakes.append(f"{origin}: {error.strerror if isinstance(error, OSError) else error}")
            continue
        key, wrong = conf.parse(text, origin)
        mistakes += wrong
        if key is not None:
            # Bytes that are no letters have no place in a store of text.
            keys.append((origin if name == "-" else visible.line(Path(name).name), key))
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
    return gone, leased, [public for public in publics if public not in gone and public not in leased]


def as_json(line: KeyLine) -> dict[str, JsonValue]:
    """A key for `keys list --json`."""
    return {name: value if value is None else str(value) for name, value in asdict(line).items()}


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
    if name == "-":
        data = sys.stdin.buffer.read(CONF_BYTES + 1)
    else:
        with Path(name).open("rb") as file:
            data = file.read(CONF_BYTES + 1)
    if len(data) > CONF_BYTES:
        raise ValueError("is too long for a WireGuard client file")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ValueError("is no text") from None
