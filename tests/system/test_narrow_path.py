"""A path to the VPN servers with an MTU of 1300 bytes that sends no ICMP about it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from lab.net import Lab
from tests.fleets import Host

PATH_BYTES = 1300
SILENT = """
table inet narrow {
  chain output {
    type filter hook output priority 0;
    icmp type destination-unreachable counter drop
    icmpv6 type packet-too-big counter drop
  }
}
"""


@pytest.fixture
def narrow(bare: Lab) -> Iterator[Lab]:
    """The lab, whose router drops larger packets."""
    bare.run("isp", ["nft", "-f", "-"], input=SILENT, check=True)
    bare.run("isp", ["ip", "link", "set", "access", "mtu", str(PATH_BYTES)], check=True)
    yield bare
    bare.run("isp", ["ip", "link", "set", "access", "mtu", "1500"], check=True)
    bare.run("isp", ["nft", "delete", "table", "inet", "narrow"], check=True)


def test_pages_load_over_a_narrow_path(narrow: Lab) -> None:
    """The first tunnel carries only small packets, and no ICMP error. netctl finds what passes; the loop is good."""
    host = Host(narrow, first_uid=1451, isolation="netns", changes={"egress": {"timeout_seconds": 8}})
    host.prepare("vpn1-01.conf", "vpn1-02.conf")
    ran = host.operate("run", "--loops", "1", "--json")
    logged = [json.loads(line) for line in (host.paths.logs / "netctl.log").read_text().splitlines() if line[:1] == "{"]
    (found,) = [line for line in logged if line["event"] == "path.narrow"]
    assert (found["was_bytes"], found["most_bytes"]) == (1420, 1200), found
    (done,) = json.loads(ran.stdout)["runs"]
    assert done["ok"] and done["failures"][0]["name"] == "Unproved", ran.stdout[-3000:]
