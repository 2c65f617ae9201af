"""A key at several servers, and what a file changes that is imported later: on a real SQLite file."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from netctl.plan.key import Endpoint, Key, Secret
from netctl.pool.contract import Lease, WholeKey, Wish
from netctl.pool.region import region_of
from netctl.pool.store import Store
from netctl.pool.updates import STANDARD_INPUT, Found
from tests.unit.test_netctl_keys import key

SERVERS = 40
JP = Endpoint("198.51.100.9", 51820)


def at(number: int, own: int = 1, **changes: Any) -> Key:
    """The key OWN at server NUMBER, as one file has it."""
    one = replace(key(own, f"198.51.100.{number}"), server_public=f"{number:043d}=")
    return replace(one, **changes)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty pool."""
    return Store(tmp_path / "netctl/keys.db")


def take(store: Store, uid: int, *, most: int = 0, rest_seconds: float = 0) -> Lease | None:
    """A lease for slot UID."""
    one = Wish(uid=uid, owner="o", most_on_server=most)
    return store.take([one], rest_seconds)[one]


def give_back(store: Store, uid: int) -> None:
    store.ending(uid)
    store.ended([(uid, None)])


# --- one key, many servers


def test_a_key_of_many_servers_is_one_key_in_one_place(store: Store) -> None:
    """Five keys of forty servers each, eight slots: five leases, of five keys, at five servers; three get none."""
    folder = [Found(f"{n}.conf", at(n, own)) for own in range(1, 6) for n in range(1, SERVERS + 1)]
    done = store.add(folder)
    assert (len(done.new), len(done.servers)) == (5, 5 * (SERVERS - 1))
    found = [lease for lease in (take(store, uid) for uid in range(1101, 1109)) if lease]
    assert len(found) == len({lease.key.private for lease in found}) == len({lease.key.server for lease in found}) == 5
    numbers = store.numbers(0)
    assert (numbers.keys, numbers.leased, numbers.free, numbers.servers) == (5, 5, 0, SERVERS)
    states = [line.state for line in store.lines()]
    assert (states.count("leased"), states.count("elsewhere")) == (5, 5 * SERVERS - 5)


def test_one_key_goes_from_server_to_server(store: Store) -> None:
    """Given back, the key is free at each other server at once, and rests at the one that it was at."""
    store.add([Found(f"{n}.conf", at(n)) for n in range(1, 4)])
    seen = []
    for _ in range(3):
        lease = take(store, 1101, rest_seconds=3600)
        assert lease
        seen.append(lease.key.server)
        give_back(store, 1101)
    assert len(set(seen)) == 3
    assert take(store, 1101, rest_seconds=3600) is None
    assert store.numbers(3600).cooling == 1


def test_a_server_has_its_cap_and_its_own_time_aside(store: Store) -> None:
    """With a cap of two the third worker goes elsewhere or waits; a server that is aside is chosen last of a key's."""
    store.add([Found(f"{own}.conf", at(1, own)) for own in range(1, 5)])
    assert [take(store, uid, most=2) is not None for uid in (1101, 1102, 1103)] == [True, True, False]
    store.add([Found("other.conf", at(2, 3))])
    third = take(store, 1103, most=2)
    assert third
    assert third.key.server == "198.51.100.2"
    give_back(store, 1103)
    one = Wish(uid=1103, owner="o", aside={"198.51.100.1": 9.0}, avoid=frozenset())
    found = store.take([one], 0)[one]
    assert found
    assert found.key.server == "198.51.100.2"


def test_a_key_that_failed_is_chosen_last_at_every_server(store: Store) -> None:
    """A revoked key is refused everywhere: another key is taken first, whatever the server, and it comes last."""
    store.add([Found(f"{own}-{n}.conf", at(n, own)) for own in (1, 2) for n in range(1, 4)])
    revoked = WholeKey(at(1, 1).private.public())
    one, other = (Wish(uid=uid, owner="o", aside={revoked: 9.0}) for uid in (1101, 1102))
    found = store.take([one, other], 0)
    assert [lease and lease.public == revoked.public for lease in found.values()] == [False, True]


# --- another way to the same server


def test_another_port_or_family_is_another_way_in(store: Store) -> None:
    """Of the same run or of a later one: one server, its ways in the order of their files; the second time nothing."""
    first, second, third = (
        Found("a.conf", at(1)),
        Found("b.conf", at(1, port=443)),
        Found("c.conf", at(1, server="2001:db8::1")),
    )
    assert store.add([first, second]).changed == {"b.conf": "another way in: 198.51.100.1:443"}
    assert store.add([third]).changed == {"c.conf": "another way in: [2001:db8::1]:51820"}
    assert store.add([third, first, second]).there == ["c.conf", "a.conf", "b.conf"]
    (line,) = store.lines()
    assert line.ways == ("198.51.100.1:51820", "198.51.100.1:443", "[2001:db8::1]:51820")
    assert line.origin == "a.conf, b.conf, c.conf"
    lease = take(store, 1101)
    assert lease
    assert [str(way) for way in lease.key.ways] == [*line.ways]


def test_two_hosts_of_one_server_key_are_two_servers(store: Store) -> None:
    """Some providers have one key for all servers of a city: imported together each is a server of its own."""
    hosts = [Found(f"{n}.conf", at(1, server=f"198.51.100.{n}")) for n in (1, 2, 3)]
    assert len(store.add(hosts).servers) == 2
    assert len(store.add(hosts).there) == 3


# --- an update


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"server": JP.host}, "endpoint: 198.51.100.1:51820 -> 198.51.100.9:51820, exit: 203.0.113.1 -> none"),
        ({"port": 443}, "endpoint: 198.51.100.1:51820 -> 198.51.100.1:443"),
        ({"server_public": "B" * 43 + "="}, "server key: another, exit: 203.0.113.1 -> none"),
        ({"preshared": Secret(b"p" * 32)}, "preshared key: another"),
        ({"address": IPv4Address("10.0.0.9")}, "address: 198.18.1.1 -> 10.0.0.9"),
        ({"exit_address": IPv4Address("203.0.113.77")}, "exit: 203.0.113.1 -> 203.0.113.77"),
        ({"mtu_bytes": 1280}, "MTU: none -> 1280"),
    ],
)
def test_a_file_that_says_something_new_changes_the_key(store: Store, changes: dict[str, Any], words: str) -> None:
    """The same file later: told as a difference without a secret, tried before it is done, and done once."""
    exit_ = IPv4Address("203.0.113.1")
    store.add([Found("a.conf", at(1, exit_address=exit_))])
    later = [Found("a.conf", at(1, **changes))]
    for dry_run in (True, False):
        assert store.add(later, dry_run=dry_run).changed == {"a.conf": words}
    assert store.add(later).there == ["a.conf"]
    lease = take(store, 1101)
    assert lease
    expected = at(1, **changes)
    kept = None if "none" in words and "exit" in words else expected.exit_address or exit_
    assert lease.key == replace(expected, exit_address=kept)
    assert len(store.lines()) == 1


def test_a_server_that_moved_is_not_two(store: Store) -> None:
    """Another file name, another address, the same server key: the key is changed, and has its new file's name."""
    store.add([Found("be-3.conf", at(1))])
    moved = Found("be-3-moved.conf", at(1, server=JP.host, port=443, exit_address=IPv4Address("203.0.113.77")))
    assert [*store.add([moved]).changed] == ["be-3-moved.conf"]
    (line,) = store.lines()
    assert (line.origin, line.ways, str(line.exit_address)) == (
        "be-3-moved.conf",
        ("198.51.100.9:443",),
        "203.0.113.77",
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Found("kr12.conf", at(1)), Found("kr13.conf", at(1, server=JP.host))),
        (Found("a.conf", at(1, server="ams-1.example")), Found("b.conf", at(1, server="ams-2.example"))),
        (Found("a.conf", at(1), "KR"), Found("b.conf", at(1, server=JP.host), "JP")),
    ],
    ids=["numbered files", "names", "regions"],
)
def test_a_neighbour_with_the_same_server_key_has_not_moved(store: Store, first: Found, second: Found) -> None:
    """Imported one after the other they are two servers of the key."""
    store.add([first])
    assert store.add([second]).servers == [second.origin]
    assert len(store.lines()) == 2


def test_standard_input_is_no_files_name(store: Store) -> None:
    """Two files piped in one after the other are two servers of the key."""
    store.add([Found(STANDARD_INPUT, at(1))])
    assert store.add([Found(STANDARD_INPUT, at(2))]).servers == [STANDARD_INPUT]


def test_a_leased_key_changes_at_its_next_lease(store: Store) -> None:
    """The lease keeps what it has, also when netctl restarts; the next lease has what the file says."""
    store.add([Found("a.conf", at(1))])
    before = take(store, 1101)
    store.add([Found("a.conf", at(1, server=JP.host))])
    assert store.held() == [before]
    assert [line.state for line in store.lines()] == ["leaving", "elsewhere"]
    assert take(store, 1102) is None
    give_back(store, 1101)
    after = take(store, 1102)
    assert after
    assert after.key == at(1, server=JP.host)
    assert [line.state for line in store.lines()] == ["leased"]


def test_a_learned_exit_becomes_the_files(store: Store) -> None:
    """What the file names is binding from then on, also where it is what was learned; a file without one keeps it."""
    store.add([Found("a.conf", at(1))])
    store.learn_exit(1, IPv4Address("203.0.113.1"))
    assert store.add([Found("a.conf", at(1))]).there == ["a.conf"]
    assert [line.learned_at is None for line in store.lines()] == [False]
    named = at(1, exit_address=IPv4Address("203.0.113.1"))
    assert store.add([Found("a.conf", named)]).changed == {"a.conf": "exit: its file's now"}
    assert [line.learned_at for line in store.lines()] == [None]


def test_a_row_that_holds_no_key_is_mended_by_its_file(store: Store, tmp_path: Path) -> None:
    """A netctl that runs takes the key again, which it had found to be none; the row's history stays."""
    store.add([Found("a.conf", at(1))])
    with contextlib.closing(sqlite3.connect(tmp_path / "netctl/keys.db")) as db:
        db.execute("UPDATE keys SET address = 'no address'")
        db.commit()
    assert take(store, 1101) is None
    other = Store(tmp_path / "netctl/keys.db")
    assert "it is replaced" in other.add([Found("a.conf", at(1))]).changed["a.conf"]
    lease = take(store, 1101)
    assert lease
    assert lease.key == at(1)
    assert len(store.lines()) == 1


def test_a_retired_key_is_kept_and_not_chosen(store: Store) -> None:
    """Until it is revived; an update leaves it retired."""
    store.add([Found("a.conf", at(1)), Found("b.conf", at(2, 2))])
    store.retire([1])
    store.add([Found("a.conf", at(1, port=443))])
    assert [line.state for line in store.lines()] == ["retired", "free"]
    assert store.numbers(0).keys == 1
    assert [lease and lease.key_id for lease in (take(store, uid) for uid in (1101, 1102))] == [2, None]
    store.retire([1], back=True)
    assert take(store, 1102)


@pytest.mark.parametrize(
    ("name", "region"),
    [
        ("kr-seo-wg-001.conf", "KR"),
        ("mullvad-al-tia-wg-001.conf", "AL"),
        ("wg-JP-FREE-3.conf", "JP"),
        ("ProtonVPN_BE#3", "BE"),
        ("kr12.nordvpn.com.conf", "KR"),
        ("my-vpn.conf", None),
        ("wg0.conf", None),
        ("home.conf", None),
    ],
)
def test_a_region_is_read_from_a_name(name: str, region: str | None) -> None:
    """A country's two letters, where they stand as providers write them."""
    assert region_of(name) == region
