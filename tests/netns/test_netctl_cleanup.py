"""`netctl cleanup` finds its objects by their marks alone: without daemon, settings or a readable key store."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from fleet.machine import spaces
from fleet.model import Worker
from fleet.operate import prepare
from lab.net import Lab
from tests.fleets import Rig, running


@pytest.fixture
def rig(lab: Lab, isolation: str) -> Iterator[Rig]:
    """Two workers with tunnels, and netctl killed."""
    lab.run("host", ["sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.uplink.rp_filter=0"], check=True)
    with running(lab, 2, isolation=isolation) as made:
        for index in range(2):
            assert "ok" in made.client(index).ask(do="connect")
        assert made.netctl
        made.netctl.kill()
        made.netctl.wait()
        yield made


def ours(rig: Rig) -> str:
    """All objects of the fleet, as the tools show them, in the host and in the workers' namespaces."""
    looks = (
        "ip rule; ip -6 rule; ip route show table all; ip -6 route show table all; ip -o address show; "
        "ip -details link show; nft list ruleset"
    )
    places = {("sh", "-c", looks), *(tuple(rig.inside(one, ["sh", "-c", looks])) for one in there(rig))}
    texts = [rig.host(place, check=True).stdout for place in sorted(places)]
    lines = [*"".join(texts).splitlines(), *(f"fleet {name}" for name in spaces.names(rig.paths.spaces))]
    marks = ("proto 77", "10.255.", "fleet", "wg10")
    return "\n".join(line for line in lines if any(mark in line for mark in marks))


def there(rig: Rig) -> list[Worker]:
    """The workers whose namespace exists."""
    alone = rig.fleet.isolation == "netns"
    return [one for one in rig.fleet.members if not alone or rig.paths.space(one).exists()]


def leased(rig: Rig) -> set[str]:
    """The holders of keys."""
    listed = json.loads(rig.command("keys", "list", "--json", check=True).stdout)
    return {key["leased_to"] for key in listed if key["leased_to"]}


def rp_filter(rig: Rig, interface: str) -> str:
    """The value of INTERFACE."""
    return rig.host(["sysctl", "-n", f"net.ipv4.conf.{interface}.rp_filter"], check=True).stdout.strip()


def test_cleanup_needs_no_settings(rig: Rig) -> None:
    """With a broken or missing snapshot everything is removed, keys are released, and rp_filter is restored."""
    rig.paths.snapshot.write_text("this is no JSON [")
    # With namespaces the host's values are not changed at all.
    lowered = ("1", "0") if rig.fleet.isolation == "netns" else ("0", "1")
    assert (rp_filter(rig, "all"), rp_filter(rig, "uplink")) == lowered
    done = rig.command("cleanup", check=True)
    assert "link delete wg101" in done.stdout
    assert ours(rig) == ""
    assert leased(rig) == set()
    assert (rp_filter(rig, "all"), rp_filter(rig, "uplink")) == ("1", "0")
    rig.paths.snapshot.unlink()
    assert rig.command("cleanup", "--json", check=True).stdout.strip() == "[]"


def test_cleanup_of_one_worker_leaves_the_others(rig: Rig) -> None:
    """--worker removes only its objects and its key; its UID stays confined, its neighbour's tunnel goes on."""
    neighbour, gone = rig.worker(0), rig.worker(1)
    done = rig.command("cleanup", "--worker", gone.name, check=True)
    assert gone.interface in done.stdout
    assert neighbour.interface not in done.stdout
    left = ours(rig)
    for mark in (f"lookup {gone.table}", f"table {gone.table}", str(gone.placeholder) + "/32", f"{gone.interface}:"):
        assert mark not in left, mark
    assert f"{neighbour.uid}-{neighbour.uid} lookup {neighbour.table}" in left
    assert leased(rig) == {neighbour.name}
    held = rig.json("nft", "-j", "list", "set", "inet", "fleet", "workers")["nftables"]
    assert [entry["set"]["elem"] for entry in held if "set" in entry] == [[neighbour.uid, gone.uid]]
    open_ = rig.there(["nft", "list", "map", "inet", "fleet", "translation"], check=True).stdout
    assert neighbour.interface in open_
    assert gone.interface not in open_
    assert rig.command("cleanup", "--worker", gone.name, "--json", check=True).stdout.strip() == "[]"
    assert rig.command("cleanup", "--worker", "eth0").returncode == 64


def test_a_dry_run_changes_nothing(rig: Rig) -> None:
    """--dry-run prints the same commands, exits 2, and touches nothing.

    Where netctl has never run it leaves neither a folder nor a lock that would be root's.
    """
    before = ours(rig)
    empty = rig.paths.root / "elsewhere"
    rig.command("cleanup", "--dry-run", env={"FLEET_ROOT": str(empty), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    assert not empty.exists()
    planned = rig.command("cleanup", "--dry-run")
    assert planned.returncode == 2
    assert ours(rig) == before
    assert leased(rig) == {worker.name for worker in rig.fleet.members}
    assert rig.command("cleanup", check=True).stdout == planned.stdout


def test_a_damaged_key_store_keeps_nothing_in_the_kernel(rig: Rig) -> None:
    """The kernel is still cleaned; an error says that keys could not be released, and the exit code is not 0."""
    for suffix in ("", "-wal", "-shm"):
        part = rig.paths.key_store.with_name(rig.paths.key_store.name + suffix)
        if part.exists():
            part.write_bytes(b"this is no database" * 500)
    done = rig.command("cleanup")
    assert done.returncode not in (0, 70)
    assert str(rig.paths.key_store) in done.stderr
    assert "link delete wg101" in done.stdout
    assert ours(rig) == ""


def test_a_worker_there_is_no_more_is_taken_away_at_the_start(rig: Rig) -> None:
    """A fleet shrinks from two workers to one: netctl removes the second's objects at its start, by a link's mark.

    Its namespace is removed before that by `fleet up`, because it needs root.
    """
    rig.count = 1
    rig.configure()
    prepare.namespaces(rig.fleet, rig.paths)
    rig.start_netctl()
    left = ours(rig)
    assert "10102" not in left
    assert "wg102" not in left.replace("wg102s", "")
    assert "1101-1101 lookup 10101" in left
