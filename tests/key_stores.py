"""netctl's key store with keys in it; `netctl keys import` takes nearly a second, and so does it once a session."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lab.net import Lab

if TYPE_CHECKING:
    from tests.fleets import Host

_FILLED: dict[tuple[tuple[Path, str], ...], bytes] = {}
"""By the files that were imported, with what was in them."""


def files(lab: Lab, patterns: Sequence[str]) -> list[Path]:
    """LAB's key files of these names."""
    return sorted(path for pattern in patterns for path in lab.places.keys.glob(pattern))


def fill(host: Host, patterns: Sequence[str]) -> None:
    """The lab's key files of these names are in HOST's store; an empty one is as the first of these was left."""
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
