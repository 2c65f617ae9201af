"""Hosts with reverse-path filters, as Ubuntu and most hardening guides set them, and a fleet with isolation uid."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.host.installed import Installed
from tests.host.machine import UPLINK
from tests.waiting import until

FILE = "etc/sysctl.d/90-filters.conf"
APPLY = ("sysctl --system", "/lib/systemd/systemd-sysctl")
"""procps' and systemd's. Both fail in the end: a container may not set what is not of the network."""
NAMES = ("all", "default", UPLINK, "lo")


@pytest.fixture
def fleet(host: Installed) -> Iterator[Installed]:
    """A fleet with isolation uid that does not run."""
    host.run("systemctl stop fleet", check=True)
    host.configure({"": {"isolation": "uid"}})
    yield host
    host.run("systemctl stop fleet", check=True)
    host.configure()
    host.run(
        f"rm -f /{FILE}; " + "; ".join(f"sysctl -qw net.ipv4.conf.{name}.rp_filter=0" for name in NAMES), check=True
    )


def values(fleet: Installed, *more: str) -> list[int]:
    """The rp_filter values of NAMES and MORE."""
    words = " ".join(f"net.ipv4.conf.{name}.rp_filter" for name in (*NAMES, *more))
    return [int(word) for word in fleet.run(f"sysctl -n {words}", check=True).stdout.split()]


def set_all(fleet: Installed, apply: str, text: str) -> None:
    """Write TEXT to an operator's sysctl file, and apply it by the command APPLY."""
    fleet.machine.write(FILE, text)
    fleet.run(apply)


@pytest.mark.whole_host
def test_filters_set_before_and_meanwhile(fleet: Installed) -> None:
    """Strict before the start, loose while it runs: loops are good, other interfaces stay filtered as set.

    `all` is 0 while tunnels exist, and the stop restores what the operator set last.
    """
    before, meanwhile = APPLY
    set_all(fleet, before, f"net.ipv4.conf.all.rp_filter = 1\nnet.ipv4.conf.{UPLINK}.rp_filter = 1\n")
    assert values(fleet) == [1, 0, 1, 0]
    verdict, seen = fleet.doctor()["rp-filter"]
    assert verdict == "ok" and f"{UPLINK} 1, lo 1" in seen and "`fleet down` restores what was there" in seen, seen
    fleet.run("systemctl start fleet", check=True)
    tunnel = fleet.workers[0].interface
    until("netctl has set them", lambda: values(fleet, tunnel) == [0, 1, 1, 1, 0], 30, lambda: values(fleet, tunnel))
    fleet.wait_for_loops()
    set_all(fleet, meanwhile, "net.ipv4.conf.all.rp_filter = 2\nnet.ipv4.conf.*.rp_filter = 2\n")
    until("it is healed", lambda: values(fleet, tunnel) == [0, 2, 2, 2, 0], 30, lambda: values(fleet, tunnel))
    assert fleet.doctor()["rp-filter"] == ("ok", f"all is 0; effective: {UPLINK} 2, lo 2")
    fleet.wait_for_loops()
    fleet.run("systemctl stop fleet", check=True)
    assert values(fleet) == [2, 2, 2, 2]


@pytest.mark.whole_host
def test_a_loose_filter_meanwhile_is_not_made_strict_again(fleet: Installed) -> None:
    """If only `all` is set from 1 to 2 while it runs, no interface has a strict reverse-path filter after the stop."""
    fleet.run("sysctl -qw net.ipv4.conf.all.rp_filter=1 && systemctl start fleet", check=True)
    fleet.run("sysctl -qw net.ipv4.conf.all.rp_filter=2", check=True)
    until("it is healed", lambda: values(fleet) == [0, 2, 2, 2], 30, lambda: values(fleet))
    fleet.run("systemctl stop fleet", check=True)
    assert values(fleet) == [2, 0, 0, 0]
