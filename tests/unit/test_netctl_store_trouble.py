"""The key store when its file is damaged, gone, full, or of an earlier boot: refused loudly, never handed out."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from fleet.errors import ConfigurationError, ExitCode, KeyStoreFailed
from netctl.pool import schema
from netctl.pool.contract import Wish
from netctl.pool.store import Store
from netctl.pool.updates import Found
from tests.unit.test_netctl_keys import key, take


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store of four keys; keys 3, then 1 have been used."""
    made = tmp_path / "netctl/keys.db"
    store = Store(made)
    store.add([Found(f"{n}.conf", key(n, f"vpn{n}.example")) for n in range(1, 5)])
    for number in (3, 1):
        take(store, 1101, number)
        store.ending(1101)
        store.ended([(1101, None)])
    store.close()
    return made


def damage(path: Path, offset: int, length: int) -> None:
    """LENGTH bytes from OFFSET are 0xA5."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xa5" * length)


@pytest.mark.parametrize(("offset", "length"), [(0, 16), (100, 4000), (4096, 20_000)])
def test_a_damaged_file_is_refused_by_name(path: Path, offset: int, length: int) -> None:
    """Header, schema or pages overwritten: ConfigurationError with the file and what to do; nothing is changed."""
    damage(path, offset, length)
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match=r"keys\.db is damaged.*no key is handed out") as caught:
        Store(path)
    assert "netctl keys import" in caught.value.hint
    assert path.read_bytes() == before


def test_a_whole_file_is_not_refused(path: Path) -> None:
    """Positive control: the same file untouched is opened."""
    assert Store(path).numbers(0).keys == 4


def test_a_file_damaged_while_it_is_open_is_refused(path: Path) -> None:
    """Overwritten under a running netctl, whose cache still is right: no key is handed out; put back, it goes on."""
    store = Store(path)
    assert store.numbers(0).keys == 4
    whole = path.read_bytes()
    damage(path, 100, len(whole) - 100)
    for _ in range(2):
        with pytest.raises(KeyStoreFailed, match=r"keys\.db"):
            take(store, 1101, 2)
    path.write_bytes(whole)
    assert take(store, 1101, 2)


def test_another_file_in_its_place_is_not_used(path: Path) -> None:
    """Removed or replaced under a running netctl: no key is handed out from either file."""
    store = Store(path)
    path.rename(path.with_name("moved"))
    for _ in range(2):
        with pytest.raises(KeyStoreFailed, match="removed or replaced"):
            take(store, 1101, 2)
        path.write_bytes(path.with_name("moved").read_bytes())


def test_a_write_that_fails_is_named(path: Path) -> None:
    """A store that cannot be written is KeyStoreFailed with the file's name, and the lease is not made."""
    store = Store(path)
    with store._file.begin() as db:
        db.exec_driver_sql(f"PRAGMA max_page_count = {db.exec_driver_sql('PRAGMA page_count').scalar()}")
    with pytest.raises(KeyStoreFailed, match=r"keys\.db.*full"):
        store.add([Found(f"{n}.conf", key(n, "vpn9.example")) for n in range(10, 200)])
    assert store.numbers(0).keys == 4


def test_a_store_that_another_holds_may_be_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written at the start, for a lock or a full disk, is no final error: it is code 75, and not 78."""
    monkeypatch.setattr(schema, "BUSY_MILLISECONDS", 10)
    with sqlite3.connect(path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(KeyStoreFailed, match=r"keys\.db cannot be used") as caught:
            Store(path)
    assert caught.value.exit_code == ExitCode.TRY_LATER


def test_a_reboot_ends_every_rest_and_keeps_the_order(path: Path) -> None:
    """Times count from the boot: those of an earlier one are rested, the least recently used key still comes first."""
    with sqlite3.connect(path) as db:
        db.execute("UPDATE boots SET id = 'earlier'")
    store = Store(path)
    with sqlite3.connect(path) as db:
        used: dict[int, float | None] = dict(db.execute("SELECT id, last_used_at FROM keys"))
    assert used[2] is None
    assert used[3] is not None
    assert used[1] is not None
    assert used[3] < used[1] <= -schema.LONGEST_REST_SECONDS
    taken = store.take([Wish(uid=uid, owner="o") for uid in range(1101, 1105)], 86_400).values()
    assert [lease.key_id for lease in taken if lease] == [2, 4, 3, 1]


def test_the_wall_clock_moves_no_rest(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """The wall clock stepped by an hour, either way: a key rests exactly as long as it would have."""
    store = Store(path)
    rests = []
    for step in (-3600, 3600):
        monkeypatch.setattr(time, "time", lambda step=step: 1.8e9 + step)
        rests.append((store.numbers(0.001).cooling, store.numbers(86_400).cooling))
    assert rests == [(0, 2), (0, 2)]
