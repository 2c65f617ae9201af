"""Fills netctl's key store. `netctl keys import` takes nearly a second, so its result is reused within a session."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lab.net import Lab

if TYPE_CHECKING:
    from tests.fleets import Host

_FILLED: dict[tuple[tuple[Path, str], ...], bytes] = {}
"""The bytes of a filled store, by the imported files and their contents."""


def files(lab: Lab, patterns: Sequence[str]) -> list[Path]:
    """LAB's key files that match PATTERNS."""
    return sorted(path for pattern in patterns for path in lab.places.keys.glob(pattern))


def fill(host: Host, patterns: Sequence[str]) -> None:
    """Put the lab's key files that match PATTERNS into HOST's store; a new store is a copy of the first such one."""
    store, fresh = host.paths.key_store, not host.paths.key_store.exists()
    words = tuple((path, path.read_text()) for path in files(host.lab, patterns))
    if fresh and words in _FILLED:
        store.touch(0o600)
        os.chown(store, store.parent.stat().st_uid, store.parent.stat().st_gid)
        store.write_bytes(_FILLED[words])
        return
    host.import_keys(*patterns)
    if fresh and not store.with_name(f"{store.name}-wal").exists():
        _FILLED[words] = store.read_bytes()
