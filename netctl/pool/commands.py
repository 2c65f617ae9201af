"""The commands on the key pool. Root reads the files, then becomes netctl before the store is opened."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from fleet import visible
from fleet.errors import ConfigurationError
from fleet.model import ACCOUNT_GROUP, NETCTL_ACCOUNT, Paths
from netctl.plan.key import Key, sayable
from netctl.pool import conf, files
from netctl.pool.store import Imported, KeyLine, Store

_NOTHING = "nothing was imported; correct these and repeat, or take the good ones: --keep-going"


class Forgotten(NamedTuple):
    """Public keys: whose learned exit was forgotten, whose file names it, and those that are not in the pool."""

    learned: list[str]
    named: list[str]
    unknown: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """What came of importing files."""

    keys: Imported
    refused: tuple[str, ...] = ()
    """A line for each file that was not taken."""
    unused: tuple[str, ...] = ()
    """What files say and the fleet does not use, in lines."""


def bring(names: Sequence[str], paths: Paths, *, keep_going: bool = False) -> Brought:
    """Import the files NAMES (`-` is standard input).

    Raises ConfigurationError with a line for each bad file; then nothing is imported. With KEEP_GOING the good ones
    are, and it is raised where there is none.
    """
    keys: list[tuple[str, Key]] = []
    refused: list[str] = []
    unused: list[tuple[str, str]] = []
    for name in names:
        origin, found = looked_at(name)
        if found.key is None:
            refused.append(f"{origin}: {'; '.join(found.mistakes)}")
            continue
        # Bytes that are no letters have no place in a store of text.
        stored = origin if origin != name else visible.line(Path(name).name)
        keys.append((stored, found.key))
        unused.append((stored, found.unused))
    if refused and not (keep_going and keys):
        raise ConfigurationError("\n".join(refused), hint=_NOTHING if keys else "")
    with opened(paths) as store:
        return Brought(keys=store.add(keys), refused=tuple(refused), unused=tuple(conf.shared(unused)))


def looked_at(name: str) -> tuple[str, conf.Parsed]:
    """What messages call the file NAME (`-` is standard input), and what it holds."""
    origin = "standard input" if name == "-" else sayable(name)
    try:
        return origin, conf.parse(files.read(name))
    except (OSError, ValueError) as error:
        return origin, conf.Parsed(None, [str(error.strerror) if isinstance(error, OSError) else str(error)])


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
