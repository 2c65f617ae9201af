"""IPv6 through a worker's tunnel: carried when its key has an address, blocked when it has none, never beside it."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from fleet.model import PLACEHOLDERS_V6
from lab import vpn
from lab.net import Lab
from lab.topology import HOST_ADDRESS_V6, SITE_NAME, WEB_ADDRESS, WEB_ADDRESS_V6
from tests.fleets import FREE, Rig, running
from tests.inside import Client, Ear, capturing, speaking
from tests.layers import without_ipv6
from tests.waiting import until

PORT, MARK = 4443, 4445
PROBES = f"port {PORT} or port {MARK} or net {PLACEHOLDERS_V6} or (ip6 and port 53) or (icmp6 and ip6[40] = 128)"
TARGET = str(WEB_ADDRESS_V6)


@pytest.fixture(scope="module")
def rig(lab: Lab, isolation: str) -> Iterator[Rig]:
    """A worker; the first server's keys carry IPv6, the second's do not, and a rotation takes the other server's."""
    one, two, *_ = lab.topology.vpn
    folder = lab.places.keys / "dual"
    folder.mkdir(mode=0o700)
    for number in range(1, 6):
        text = (lab.places.keys / f"{one.host}-{number:02d}.conf").read_text()
        (folder / f"{number}.conf").write_text(vpn.with_ipv6(text, one, number))
    try:
        keys = ("dual/*.conf", f"{two.host}-0[1-5].conf")
        with running(lab, keys=keys, changes={"netctl": {"key_cooldown_seconds": 0.1}}, isolation=isolation) as made:
            yield made
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


@pytest.fixture
def client(rig: Rig) -> Iterator[Client]:
    """A process of the worker; after the test it is gone and the slot sealed."""
    made = rig.client()
    yield made
    made.kill()
    rig.wait_until_sealed()


def have(client: Client, *, ipv6: bool) -> dict[str, Any]:
    """A tunnel that carries IPv6, or one that does not."""
    answer = client.ask(do="rotate").get("ok") or client.ask(do="connect")["ok"]
    for _ in range(4):
        if answer["carries_ipv6"] == ipv6:
            return dict(answer)
        answer = client.ask(do="rotate")["ok"]
    pytest.fail(f"no such key came: {answer}")


def seen(rig: Rig, family: str) -> str:
    """The address that the shop sees when the worker asks it over FAMILY, or nothing."""
    host = TARGET if family == "-6" else str(WEB_ADDRESS)
    where = ["--resolve", f"{SITE_NAME}:443:{host}", f"https://{SITE_NAME}/ip"]
    done = rig.there(rig.as_worker(rig.worker(), "curl", "-sk", family, "--max-time", "3", *where))
    return done.stdout.strip()


def probe(rig: Rig, client: Client, *, sources: tuple[str | None, ...] = (None, str(HOST_ADDRESS_V6))) -> None:
    """TCP, UDP, DNS and ICMP over IPv6, plain and bound to the uplink, from its own and from the host's address."""
    for device in (None, "uplink"):
        for source in (*sources, str(rig.worker().placeholder_v6)):
            for kind, port in (("tcp", PORT), ("udp", PORT), ("udp", 53), ("icmp", 0)):
                client.ask(do=kind, host=TARGET, port=port, device=device, source=source, timeout=0.15)


def assert_silent(rig: Rig, ear: Ear) -> None:
    """Assert that nothing was captured before a final packet of another UID, which is captured."""
    free = rig.client_of(FREE)
    free.ask(do="udp", host=TARGET, port=MARK)
    free.kill()
    assert ear.before(f".{MARK}: UDP") == []


@contextlib.contextmanager
def events(rig: Rig) -> Iterator[Ear]:
    """Every address event in the host, from now on."""
    told = "import subprocess, sys; print('ready', flush=True); sys.exit(subprocess.call(sys.argv[1:]))"
    argv = ["/usr/bin/python3", "-I", "-c", told, "ip", "-o", "monitor", "address"]
    with speaking(rig.lab, "host", argv, "ready") as ear:
        until("the judge hears", lambda: heard_of(rig, ear), 10)
        yield ear


def heard_of(rig: Rig, ear: Ear) -> bool:
    """Whether the listener reports an address that is added and deleted now."""
    touch(rig, 76)
    return ear.says_more()


def touch(rig: Rig, number: int) -> None:
    """Add and delete an address of 192.0.2.0/24."""
    for verb in ("add", "del"):
        rig.host(["ip", "address", verb, f"192.0.2.{number}/32", "dev", "lo"], check=True)


def assert_no_event(rig: Rig, ear: Ear) -> None:
    """Assert that no event was heard except the test's own, which are the control."""
    touch(rig, 77)
    assert [line for line in ear.before("192.0.2.77") if "192.0.2.76" not in line] == []


def test_a_key_with_an_address_carries_ipv6(rig: Rig, client: Client) -> None:
    """The site is reached from the IPv6 placeholder and sees the server's IPv6 exit; IPv4 goes on beside it."""
    answer = have(client, ipv6=True)
    reached = client.ask(do="tcp", host=TARGET, port=443, timeout=3)
    assert reached == {"ok": {"from": str(rig.worker().placeholder_v6)}}
    assert seen(rig, "-6") == answer["exit_address_v6"]
    assert seen(rig, "-4") == answer["exit_address"]
    assert rig.command("plan", "--json").stdout.strip() == "[]"


def test_a_server_that_has_an_ipv6_address_alone(rig: Rig, client: Client) -> None:
    """The tunnel goes over the host's IPv6, and the site is reached through it as through any other."""
    one = rig.lab.topology.vpn[0]
    path = rig.lab.places.keys / "outer.conf"
    text = (rig.lab.places.keys / f"{one.host}-07.conf").read_text()
    path.write_text(text.replace(f"Endpoint = {one.address}:", f"Endpoint = [{one.address_v6}]:"))
    rig.command("keys", "import", str(path), check=True)
    try:
        client.ask(do="connect")
        answers = (client.ask(do="rotate")["ok"] for _ in range(6))
        answer = next((one for one in answers if ":" in one["exit_server"]), None)
        assert answer and answer["exit_server"] == str(one.address_v6), answer
        assert seen(rig, "-4") == answer["exit_address"]
        assert rig.command("plan", "--json").stdout.strip() == "[]"
    finally:
        rig.command("keys", "remove", "outer.conf", check=True)
        path.unlink()


def test_a_key_without_one_stays_blocked(rig: Rig, client: Client) -> None:
    """Rotating to it closes IPv6 and back opens it again, with no address event; IPv4 works throughout."""
    answer = have(client, ipv6=True)
    with events(rig) as heard:
        for ipv6 in (False, True, False, True):
            answer = have(client, ipv6=ipv6)
            assert seen(rig, "-4") == answer["exit_address"]
            assert seen(rig, "-6") == (answer["exit_address_v6"] if ipv6 else "")
            assert rig.command("plan", "--json").stdout.strip() == "[]"
        assert_no_event(rig, heard)


@pytest.mark.parametrize("state", ["sealed", "connected", "without", "rules flushed", "netctl dead"])
def test_nothing_of_it_leaves_beside_the_tunnel(rig: Rig, client: Client, state: str) -> None:
    """IPv6 probes, bound and spoofed, with a key that carries IPv6 and one that does not: none reaches the ISP."""
    if state != "sealed":
        have(client, ipv6=state != "without")
    with capturing(rig.lab, PROBES) as ear:
        if state == "netctl dead":
            rig.kill_netctl()
        if state == "rules flushed":
            rig.there(["ip", "-6", "rule", "flush", "protocol", "77"], check=True)
        probe(rig, client)
        assert_silent(rig, ear)
    if state == "netctl dead":
        rig.start_netctl()
    rig.wait_until_settled(20)


def test_the_same_probes_are_seen_of_another_uid(rig: Rig) -> None:
    """Positive control: TCP, UDP, DNS and ICMP over IPv6 from a UID of no worker are seen."""
    control = rig.client_of(FREE)
    with capturing(rig.lab, PROBES) as ear:
        probe(rig, control)
        control.ask(do="udp", host=TARGET, port=MARK)
        lines = "\n".join(ear.before(f".{MARK}: UDP"))
    control.kill()
    for mark in (f".{PORT}: Flags [S]", f".{PORT}: UDP", ".53:", "ICMP6, echo request"):
        assert mark in lines, mark


def test_a_rotation_ends_its_sockets_and_connections(rig: Rig, client: Client) -> None:
    """A connection over IPv6 of the old exit is aborted and no longer tracked; nothing of it is seen at the ISP."""
    have(client, ipv6=True)
    hold = ["curl", "-sk", "--max-time", "60", f"telnet://[{TARGET}]:443"]
    argv = rig.inside(rig.worker(), rig.as_worker(rig.worker(), *hold))
    holder = rig.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    source = str(rig.worker().placeholder_v6)
    until("connected", lambda: source in rig.there(["ss", "-6tnH", "state", "established"]).stdout, 10)
    tracked = ["conntrack", "-f", "ipv6", "-L", "--src", source]
    assert "dport=443" in rig.there(tracked).stdout
    with capturing(rig.lab, PROBES) as ear:
        client.ask(do="rotate")
        assert source not in rig.there(["ss", "-6tnaH"]).stdout
        until(
            "no longer tracked",
            lambda: "dport=443" not in rig.there(tracked).stdout,
            10,
            lambda: rig.there(tracked).stdout,
        )
        assert_silent(rig, ear)
    holder.kill()


def test_netctl_restarted_keeps_it(rig: Rig, client: Client) -> None:
    """netctl is killed: IPv6 goes on, the next netctl finds everything in order and gives the lease back."""
    before = have(client, ipv6=True)
    assert rig.netctl
    with events(rig) as heard:
        rig.kill_netctl()
        assert seen(rig, "-6") == before["exit_address_v6"]
        rig.start_netctl()
        again = client.ask(do="connect", resume=before["lease"])["ok"]
        assert (again["lease"], again["carries_ipv6"]) == (before["lease"], True)
        assert seen(rig, "-6") == before["exit_address_v6"]
        assert_no_event(rig, heard)


def test_a_host_that_turns_ipv6_off_goes_on_with_ipv4(rig: Rig, client: Client) -> None:
    """net.ipv6.conf.all.disable_ipv6 = 1: IPv4 tunnels come and go as before; back at 0, IPv6 is carried again."""
    with without_ipv6(rig, off=True):
        answer = client.ask(do="connect")["ok"]
        for _ in range(2):
            assert not answer["carries_ipv6"]
            assert seen(rig, "-4") == answer["exit_address"]
            assert seen(rig, "-6") == ""
            answer = client.ask(do="rotate")["ok"]
    answer = have(client, ipv6=True)
    assert seen(rig, "-6") == answer["exit_address_v6"]


def test_keys_list_shows_both(rig: Rig) -> None:
    """`keys list` names both tunnel addresses and exits; the keys without IPv6 have none."""
    lines = json.loads(rig.command("keys", "list", "--json", check=True).stdout)
    v6 = [line["address_v6"] for line in lines if line["server"] == "203.0.113.11"]
    assert len(v6) == 5
    assert all(address.startswith("2001:db8:98:1:") for address in v6)
    assert {line["address_v6"] for line in lines if line["server"] != "203.0.113.11"} == {None}
