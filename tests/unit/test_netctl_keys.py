"""Key files, and the store's invariants on a real SQLite file."""

from __future__ import annotations

import base64
import contextlib
import os
import sqlite3
import stat
from collections.abc import Hashable
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest

from fleet.model import Paths
from netctl.plan.key import Key, Secret
from netctl.pool import commands, conf
from netctl.pool.contract import Lease, Wish
from netctl.pool.store import Store
from netctl.pool.updates import Found, Imported

PRIVATE = "cHJpdmF0ZXByaXZhdGVwcml2YXRlcHJpdmF0ZXByaXY="
PUBLIC = "c2VydmVyc2VydmVyc2VydmVyc2VydmVyc2VydmVyMTI="
GOOD = f"""# ExitAddress = 203.0.113.11
[Interface]
PrivateKey = {PRIVATE}
Address = 198.18.1.11/32, fd00::1/128
DNS = 198.18.0.53

[Peer]
PublicKey = {PUBLIC}
AllowedIPs = 0.0.0.0/0
AllowedIPs = ::/0
Endpoint = vpn1.example:51820 # the first
"""


def key(number: int, server: str) -> Key:
    """A key of SERVER."""
    return Key(
        private=Secret(bytes([number]) * 32),
        address=IPv4Address("198.18.1.0") + number,
        server_public=PUBLIC,
        server=server,
        port=51820,
    )


class Clock:
    """A clock that a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def take(store: Store, uid: int, key_id: int) -> Lease:
    """Lease the free key KEY_ID of four: the others are put aside."""
    others: dict[Hashable, float] = {number: 1.0 for number in range(1, 5) if number != key_id}
    wish = Wish(uid=uid, owner="o", aside=others)
    found = store.take([wish], 0)[wish]
    assert found
    assert found.key_id == key_id
    return found


@pytest.fixture
def clock() -> Clock:
    """It stands at 1000 s."""
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Store:
    """Four keys, two on each of two servers."""
    made = Store(tmp_path / "netctl/keys.db", clock=clock)
    made.add([Found(f"{n}.conf", key(n, f"vpn{n % 2}.example")) for n in range(1, 5)])
    return made


def test_an_ordinary_client_file_is_a_key() -> None:
    """Comments, repeated entries and IPv6 beside IPv4 are fine; the exit address is read from its comment."""
    found, mistakes, *_ = conf.parse(GOOD)
    assert mistakes == []
    assert found is not None
    assert (found.server, found.port, found.address) == ("vpn1.example", 51820, IPv4Address("198.18.1.11"))
    assert found.exit_address == ip_address("203.0.113.11")
    assert (found.address_v6, found.exit_address_v6) == (IPv6Address("fd00::1"), None)


@pytest.mark.parametrize(
    ("allowed", "carries"),
    [
        ("AllowedIPs = ::/0\n", True),
        ("AllowedIPs = 8000::/1, ::/1\n", True),
        ("AllowedIPs = 2000::/3\n", False),
        ("", False),
    ],
)
def test_ipv6_is_carried_where_the_server_is_asked_for_all_of_it(allowed: str, carries: bool) -> None:
    """An IPv6 address counts with ::/0 among the allowed, however it is cut, or with no such entry at all."""
    found, mistakes, *_ = conf.parse(GOOD.replace("AllowedIPs = ::/0\n", allowed))
    assert found, mistakes
    assert (found.address_v6 is not None) == carries
    bare, *_ = conf.parse("\n".join(line for line in GOOD.splitlines() if "AllowedIPs" not in line))
    assert bare
    assert bare.address_v6 is not None


def test_an_exit_of_either_family() -> None:
    """ExitAddress may stand twice; each is the exit of its own family, also the IPv6 one alone."""
    second = GOOD.replace("[Interface]", "# ExitAddress = 2001:db8:2::1001\n[Interface]")
    both, *_ = conf.parse(second)
    assert both
    assert (both.exit_address, both.exit_address_v6) == (
        ip_address("203.0.113.11"),
        ip_address("2001:db8:2::1001"),
    )
    one, *_ = conf.parse(GOOD.replace("203.0.113.11", "2001:db8:2::1001"))
    assert one
    assert (one.exit_address, one.exit_address_v6) == (None, ip_address("2001:db8:2::1001"))


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        (PRIVATE, PRIVATE[:-4], "[Interface] PrivateKey"),
        (PRIVATE, "not base64!", "[Interface] PrivateKey"),
        ("198.18.1.11/32, ", "", "no IPv4 address"),
        ("vpn1.example:51820", "vpn1.example", "[Peer] Endpoint"),
        ("vpn1.example:51820", "-bad-:51820", "[Peer] Endpoint"),
        ("203.0.113.11", "203.0.113.999", "ExitAddress"),
        ("::/0", "nonsense", "[Peer] AllowedIPs"),
        ("[Peer]", "[Peer]\nAllowedIPs = 0.0.0.0/0\n[Peer]", "more than one [Peer]"),
        ("DNS = ", "DNS ", "line 5"),
    ],
)
def test_a_mistake_is_named_without_key_material(old: str, new: str, wrong: str) -> None:
    """The message has the entry and what is wrong, never a key."""
    found, mistakes, *_ = conf.parse(GOOD.replace(old, new))
    assert found is None
    text = "\n".join(mistakes)
    assert wrong in text
    assert PRIVATE[:12] not in text


def test_every_mistake_is_told_at_once() -> None:
    """A file of one empty section lacks four things, and hears of all four; an empty one is no client file."""
    assert [len(conf.parse(text)[1]) for text in ("[Interface]\n", "")] == [4, 1]


def test_a_private_key_is_what_a_device_reads_back() -> None:
    """The bits that X25519 fixes are set: any other key would differ from its device for ever."""
    found, *_ = conf.parse(GOOD.replace(PRIVATE, base64.b64encode(b"\xff" * 32).decode()))
    assert found
    assert found.private.reveal() == b"\xf8" + b"\xff" * 30 + b"\x7f"


def test_a_secret_shows_itself_nowhere() -> None:
    """repr, str, format and the repr of what holds it are silent."""
    secret = Secret.parse(PRIVATE)
    holder = key(7, "vpn1.example")
    for text in (repr(secret), str(secret), f"{secret}", f"{secret!r}", repr(holder)):
        assert PRIVATE not in text
        assert "\\x07" not in text
        assert "hidden" in text


def test_a_key_is_never_leased_twice(store: Store, tmp_path: Path) -> None:
    """The schema refuses a second lease of a key, also while the first is still ending."""
    take(store, 1101, 1)
    with contextlib.closing(sqlite3.connect(tmp_path / "netctl/keys.db", isolation_level=None)) as db:
        second = """INSERT INTO leases SELECT id || '2', key_id, public, 1102, 1, endpoint_host, endpoint_port, owner,
                    'held', 0 FROM leases"""
        with pytest.raises(sqlite3.IntegrityError):
            db.execute(second)
        store.ending(1101)
        with pytest.raises(sqlite3.IntegrityError):
            db.execute(second)
        store.ended([(1101, None)])
        assert db.execute(second).rowcount == 1


def test_a_returned_key_rests(store: Store, clock: Clock) -> None:
    """Its rest counts from the confirmed end of the lease."""
    take(store, 1101, 1)
    store.ending(1101)
    clock.now = 1005.0
    store.ended([(1101, None)])
    clock.now = 1014.9
    assert store.numbers(10).cooling == 1
    clock.now = 1015.0
    assert store.numbers(10).cooling == 0


def test_history_is_bounded(store: Store) -> None:
    """A slot's leases of long ago are forgotten, its generation goes on."""
    for _ in range(60):
        take(store, 1101, 1)
        store.ending(1101)
        store.ended([(1101, None)])
    assert take(store, 1101, 1).generation == 61


def test_duplicates_are_skipped_and_a_leased_key_leaves_at_the_end(store: Store) -> None:
    """The same key at the same server is one; removed while it is leased, it goes with its lease, others at once."""
    done = store.add([Found("1.conf", key(1, "vpn1.example")), Found("new.conf", key(9, "vpn1.example"))])
    assert done == Imported(new=["new.conf"], there=["1.conf"])
    take(store, 1101, 1)
    assert store.remove([1, 2]) == [1]
    assert [(line.key_id, line.state) for line in store.lines() if line.key_id < 3] == [(1, "leaving")]
    store.ending(1101)
    store.ended([(1101, None)])
    assert 1 not in {line.key_id for line in store.lines()}
    assert take(store, 1101, 3).generation == 2


def test_only_the_owner_can_read_the_store(store: Store, tmp_path: Path) -> None:
    """0600 for the file and SQLite's own beside it, 0700 for the folder."""
    take(store, 1101, 1)
    folder = tmp_path / "netctl"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_file_whose_name_is_no_text_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a key came from is shown, control characters by their number."""
    monkeypatch.setattr(commands, "_as_netctl", lambda _: contextlib.nullcontext())
    path = os.fsdecode(bytes(tmp_path) + b"/bad\xff\x1b.conf")
    Path(path).write_text(GOOD)
    paths = Paths(root=tmp_path)
    paths.key_store.parent.mkdir(parents=True)
    assert len(commands.bring([path], paths).keys.new) == 1
    assert [line.origin for line in commands.listed(paths)[0]] == [r"bad\udcff\x1b.conf"]
