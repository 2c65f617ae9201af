"""Key stores that an earlier netctl has made, by the tables that it made: they open with their keys and leases."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import replace
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from fleet.errors import ConfigurationError
from netctl.plan.key import Endpoint
from netctl.pool.store import Store
from netctl.pool.updates import Found, Imported
from netctl.pool.upgrade import VERSION
from tests.unit.test_netctl_keys import PUBLIC, key, take

TABLES = """
CREATE TABLE boots (id TEXT NOT NULL, PRIMARY KEY (id));
CREATE TABLE keys (
    id INTEGER NOT NULL, public TEXT NOT NULL, private BLOB NOT NULL, preshared BLOB, address TEXT NOT NULL,
    server_public TEXT NOT NULL, endpoint_host TEXT NOT NULL, endpoint_port INTEGER NOT NULL, exit_address TEXT,
    origin TEXT NOT NULL, last_used_at FLOAT, PRIMARY KEY (id), UNIQUE (public)
);
CREATE TABLE leases (
    id TEXT NOT NULL, key_id INTEGER NOT NULL, slot INTEGER NOT NULL, generation INTEGER NOT NULL,
    endpoint TEXT NOT NULL, owner TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('held', 'ending', 'ended')), began_at FLOAT NOT NULL,
    PRIMARY KEY (id), UNIQUE (slot, generation), FOREIGN KEY(key_id) REFERENCES keys (id)
);
CREATE UNIQUE INDEX one_lease_a_key ON leases (key_id) WHERE state <> 'ended';
CREATE UNIQUE INDEX one_lease_a_slot ON leases (slot) WHERE state = 'held';
"""
FOR_IPV6 = """
ALTER TABLE keys ADD COLUMN address_v6 TEXT;
ALTER TABLE keys ADD COLUMN exit_address_v6 TEXT;
"""
WITH_TWO_COLUMNS = """
ALTER TABLE keys RENAME COLUMN endpoint_host TO server;
ALTER TABLE keys RENAME COLUMN endpoint_port TO port;
ALTER TABLE keys ADD COLUMN trouble TEXT;
ALTER TABLE keys ADD COLUMN learned_at FLOAT;
CREATE TABLE claims (
    key_id INTEGER NOT NULL, slot INTEGER NOT NULL, address TEXT NOT NULL, claimed_at FLOAT NOT NULL,
    PRIMARY KEY (key_id, slot), FOREIGN KEY(key_id) REFERENCES keys (id) ON DELETE CASCADE
);
INSERT INTO claims VALUES (1, 1101, '203.0.113.1', 0);
UPDATE keys SET exit_address = '203.0.113.9', learned_at = 7 WHERE id = 2;
UPDATE keys SET exit_address = '203.0.113.9' WHERE id = 3;
ALTER TABLE leases ADD COLUMN endpoint_host TEXT NOT NULL DEFAULT '';
ALTER TABLE leases ADD COLUMN endpoint_port INTEGER NOT NULL DEFAULT 0;
UPDATE leases SET endpoint_port = substr(endpoint, -5), endpoint_host = substr(endpoint, 1, length(endpoint) - 6);
ALTER TABLE leases DROP COLUMN endpoint;
"""
MADE_BY = {0: "", 2: FOR_IPV6, 4: FOR_IPV6 + WITH_TWO_COLUMNS}
ENDPOINTS = ("203.0.113.11 51820", "fe80::1%a scope with blanks 51821", "vpn3.example 51822")


@pytest.fixture(params=MADE_BY)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A store of an earlier version, with four keys; slots 1101 to 1103 hold the first three."""
    made = tmp_path / "keys.db"
    with contextlib.closing(sqlite3.connect(made)) as db:
        db.executescript(TABLES)
        for number in range(1, 5):
            one = key(number, f"vpn{number}.example")
            row = (one.private.public(), one.private.reveal(), str(one.address), PUBLIC, one.server, one.port)
            columns = "public, private, address, server_public, endpoint_host, endpoint_port, origin"
            db.execute(f"INSERT INTO keys ({columns}) VALUES (?, ?, ?, ?, ?, ?, 'file')", row)
        for number, endpoint in enumerate(ENDPOINTS, 1):
            lease = (f"lease {number}", number, 1100 + number, 7, endpoint)
            db.execute("INSERT INTO leases VALUES (?, ?, ?, ?, ?, 'o', 'held', 0)", lease)
        db.executescript(MADE_BY[request.param])
        db.execute(f"PRAGMA user_version = {request.param}")
        db.commit()
    made.chmod(0o600)
    return made


def test_a_store_of_an_earlier_version_keeps_keys_and_leases(path: Path) -> None:
    """Opened as often as wanted: each lease with its key, its generation and its server's address, however written."""
    for _ in range(2):
        store = Store(path)
        held = sorted(store.held(), key=lambda lease: lease.uid)
        assert [replace(lease.key, exit_address=None) for lease in held] == [
            key(n, f"vpn{n}.example") for n in (1, 2, 3)
        ]
        assert [lease.endpoint for lease in held] == [
            Endpoint("203.0.113.11", 51820),
            Endpoint("fe80::1%a scope with blanks", 51821),
            Endpoint("vpn3.example", 51822),
        ]
        assert {lease.generation for lease in held} == {7}
        store.close()
    assert take(Store(path), 1104, 4).generation == 1
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)


def test_whose_word_an_exit_is_comes_through(path: Path) -> None:
    """What was learned stays learned, what a file names stays binding; before that was known, all of it is doubted."""
    found = [(lease.learned_at, lease.key.exit_address) for lease in Store(path).held()]
    if found[2][1]:
        assert [learned for learned, _ in found] == [None, 7, None]
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE name LIKE 'old%'")} == set()


def test_a_store_of_an_earlier_version_keeps_its_invariants(path: Path) -> None:
    """No second lease of a key, and none of a slot: the indexes have come through the change of columns."""
    Store(path).close()
    values = "'new', {key}, (SELECT public FROM keys WHERE id = {key}), {slot}, 9, 'o', 'held', 0, 'h', 1"
    columns = "id, key_id, public, slot, generation, owner, state, began_at, endpoint_host, endpoint_port"
    with contextlib.closing(sqlite3.connect(path)) as db:
        for taken in (values.format(key=1, slot=1104), values.format(key=4, slot=1101)):
            with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
                db.execute(f"INSERT INTO leases ({columns}) VALUES ({taken})")


def test_what_an_earlier_version_did_not_know_is_added(path: Path) -> None:
    """Importing the files again gives a key their IPv6 and MTU; a second time there is nothing to learn."""
    store = Store(path)
    now = replace(key(4, "vpn4.example"), address_v6=IPv6Address("fd00::1"), mtu_bytes=1280)
    words = "IPv6 address: none -> fd00::1, MTU: none -> 1280"
    assert store.add([Found("4.conf", now)]) == Imported(changed={"4.conf": words})
    assert store.add([Found("4.conf", now, "KR")]) == Imported(there=["4.conf"])
    assert "KR" in {line.region for line in store.lines()}
    assert take(store, 1104, 4).key == now


def test_a_store_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    """After a step back to an earlier netctl it is refused by its version, and not touched."""
    path = tmp_path / "keys.db"
    Store(path).close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match=f"version {VERSION + 1},"):
        Store(path)
    assert path.read_bytes() == before
