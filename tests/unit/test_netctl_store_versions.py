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
from netctl.pool.store import Imported, Store
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
MADE_BY = {0: TABLES, 2: TABLES + FOR_IPV6}
ENDPOINTS = ("203.0.113.11 51820", "fe80::1%a scope with blanks 51821", "vpn3.example 51822")


@pytest.fixture(params=MADE_BY)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A store of an earlier version, with four keys; slots 1101 to 1103 hold the first three."""
    made = tmp_path / "keys.db"
    with contextlib.closing(sqlite3.connect(made)) as db:
        db.executescript(MADE_BY[request.param])
        for number in range(1, 5):
            one = key(number, f"vpn{number}.example")
            row = (one.private.public(), one.private.reveal(), str(one.address), PUBLIC, one.server, one.port)
            columns = "public, private, address, server_public, endpoint_host, endpoint_port, origin"
            db.execute(f"INSERT INTO keys ({columns}) VALUES (?, ?, ?, ?, ?, ?, 'file')", row)
        for number, endpoint in enumerate(ENDPOINTS, 1):
            lease = (f"lease {number}", number, 1100 + number, 7, endpoint)
            db.execute("INSERT INTO leases VALUES (?, ?, ?, ?, ?, 'o', 'held', 0)", lease)
        db.execute(f"PRAGMA user_version = {request.param}")
        db.commit()
    made.chmod(0o600)
    return made


def test_a_store_of_an_earlier_version_keeps_keys_and_leases(path: Path) -> None:
    """Opened as often as wanted: each lease with its key, its generation and its server's address, however written."""
    for _ in range(2):
        store = Store(path)
        held = sorted(store.held(), key=lambda lease: lease.uid)
        assert [lease.key for lease in held] == [key(n, f"vpn{n}.example") for n in (1, 2, 3)]
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


def test_a_store_of_an_earlier_version_keeps_its_invariants(path: Path) -> None:
    """No second lease of a key, and none of a slot: the indexes have come through the change of columns."""
    Store(path).close()
    values = "'new', {key}, {slot}, 9, 'o', 'held', 0, 'h', 1"
    columns = "id, key_id, slot, generation, owner, state, began_at, endpoint_host, endpoint_port"
    with contextlib.closing(sqlite3.connect(path)) as db:
        for taken in (values.format(key=1, slot=1104), values.format(key=4, slot=1101)):
            with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
                db.execute(f"INSERT INTO leases ({columns}) VALUES ({taken})")


def test_what_an_earlier_version_did_not_know_is_added(path: Path) -> None:
    """Importing the files again completes a key by its IPv6, once, and changes nothing that is known."""
    store = Store(path)
    now = replace(key(1, "vpn9.example"), address_v6=IPv6Address("fd00::1"), exit_address_v6=IPv6Address("2001:db8::1"))
    assert store.add([("1.conf", now)]) == Imported(new=(), completed=("1.conf",), there=())
    other = replace(now, address_v6=IPv6Address("fd00::2"))
    assert store.add([("1.conf", other)]) == Imported(new=(), completed=(), there=("1.conf",))
    (found,) = (lease.key for lease in store.held() if lease.key_id == 1)
    assert found == replace(now, server="vpn1.example")


def test_a_store_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    """After a step back to an earlier netctl it is refused by its version, and not touched."""
    path = tmp_path / "keys.db"
    Store(path).close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match=f"of version {VERSION + 1}"):
        Store(path)
    assert path.read_bytes() == before
