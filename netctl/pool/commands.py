"""The commands on the key pool. Root reads the files, then becomes netctl before the store is opened."""

from __future__ import annotations

import grp
import os
import pwd
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from fleet import snapshot, visible
from fleet.client_files import intake
from fleet.errors import ConfigurationError, FleetError
from fleet.model import ACCOUNT_GROUP, NETCTL_ACCOUNT, Fleet, NetctlSettings, Paths, WireguardSettings, WorkersSettings
from netctl.plan.key import Key, sayable
from netctl.pool import conf
from netctl.pool.lines import KeyLine
from netctl.pool.region import region_of
from netctl.pool.store import Store
from netctl.pool.updates import STANDARD_INPUT, Found, Imported

_NOTHING = "nothing was imported; correct these files and repeat, or import only the good ones: --keep-going"


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """The result of importing files."""

    keys: Imported
    refused: tuple[str, ...] = ()
    """A line for each file that was not imported."""
    unused: tuple[str, ...] = ()
    """Lines that name the entries of files that the fleet does not use."""


def bring(names: Sequence[str], paths: Paths, *, keep_going: bool = False, dry_run: bool = False) -> Brought:
    """Import the files NAMES (`-` is standard input); with DRY_RUN only return what that would do.

    Raises ConfigurationError with a line for each bad file; then nothing is imported. With KEEP_GOING the good ones
    are imported, and the error is raised only where there are none.
    """
    keys: list[Found] = []
    settings = _settings(paths)
    refused: list[str] = []
    unused: list[tuple[str, str]] = []
    for name in names:
        origin, found = looked_at(name)
        if found.key is None:
            refused.append(f"{origin}: {'; '.join(found.mistakes)}")
            continue
        stored = _stored(name, origin)
        folder = Path(name).absolute().parent.name
        region = region_of(stored, found.label, folder, found.key.server)
        keys.append(Found(origin=stored, key=found.key, region=region))
        unused.append((stored, _unused(found.key, found.unused, settings)))
    if refused and not (keep_going and keys):
        raise ConfigurationError("\n".join(refused), hint=_NOTHING if keys else "")
    with opened(paths) as store:
        return Brought(keys=store.add(keys, dry_run=dry_run), refused=tuple(refused), unused=tuple(conf.shared(unused)))


def looked_at(name: str) -> tuple[str, conf.Parsed]:
    """The name of the file NAME in messages (`-` is standard input), and its parsed content."""
    origin = STANDARD_INPUT if name == "-" else sayable(name)
    try:
        return origin, conf.parse(intake.read(name))
    except (OSError, ValueError) as error:
        return origin, conf.Parsed(None, [str(error.strerror) if isinstance(error, OSError) else str(error)])


def _unused(key: Key, words: str, settings: _Usual | Fleet) -> str:
    found, most_bytes, network = [words], settings.wireguard.mtu, settings.workers.placeholders
    if (key.mtu_bytes or 0) > most_bytes:
        found.append(f"MTU {key.mtu_bytes} (wireguard.mtu is {most_bytes})")
    if key.address in network:
        found.append(f"the key, while {key.address} is among workers.placeholders ({network})")
    return ", ".join(filter(None, found))


def _stored(name: str, origin: str) -> str:
    # The store holds text: bytes that are not valid text are made visible.
    return origin if origin != name else visible.line(Path(name).name)


def listed(paths: Paths) -> tuple[list[KeyLine], str | None]:
    """Every key at every server, without secrets; and what is wrong with the key service (None: there is none)."""
    with opened(paths) as store:
        cooldown = _settings(paths).netctl.key_cooldown_seconds
        return store.lines(cooldown), store.numbers(cooldown).service


class _Usual(NamedTuple):
    """The default settings, used before the first `fleet up`."""

    netctl: NetctlSettings = NetctlSettings()
    wireguard: WireguardSettings = WireguardSettings()
    workers: WorkersSettings = WorkersSettings()


def _settings(paths: Paths) -> _Usual | Fleet:
    """The settings of the last start."""
    try:
        return snapshot.read(paths.snapshot).fleet
    except (FleetError, OSError):
        return _Usual()


def chosen(words: Sequence[str], lines: Sequence[KeyLine]) -> tuple[list[KeyLine], list[str]]:
    """The LINES that WORDS name: by file, server, region or public key.

    Also returns the words that name none, as `word NUMBER`, because they may be private keys.
    """
    found = {word: [line for line in lines if _names(word, line)] for word in words}
    unknown = [f"word {number}" for number, word in enumerate(words, 1) if not found[word]]
    return list(dict.fromkeys(line for some in found.values() for line in some)), unknown


def _names(word: str, line: KeyLine) -> bool:
    files_ = line.origin.split(", ")
    name = unicodedata.normalize("NFC", visible.line(Path(word).name))
    by_file = name in files_ or any(one.removesuffix(".conf") == name for one in files_)
    servers = {line.server, *line.ways}
    return by_file or word in (line.public_key, *servers) or word.upper() == line.region


Change = Callable[[Store, Sequence[int]], object]


def change(words: Sequence[str] | None, paths: Paths, what: Change) -> tuple[list[KeyLine], list[str]]:
    """Do WHAT with the keys that WORDS name (None: with all). Returns them as they were, and the words naming none."""
    with opened(paths) as store:
        lines = [line for line in store.lines() if line.state != "leaving"]
        found, unknown = (lines, []) if words is None else chosen(words, lines)
        what(store, [line.key_id for line in found])
    return found, unknown


def as_json(line: KeyLine) -> dict[str, JsonValue]:
    """A key for `keys list --json`."""
    return {name: _plain(value) for name, value in {**asdict(line), "trouble": line.trouble}.items()}


def _plain(value: object) -> JsonValue:
    if isinstance(value, tuple):
        return [*map(_plain, value)]
    if isinstance(value, datetime):
        return value.isoformat()
    return value if value is None or isinstance(value, str | int) else str(value)


@contextmanager
def opened(paths: Paths) -> Iterator[Store]:
    """The store, opened as its owner: root takes netctl's identity meanwhile, so that new files belong to netctl."""
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
