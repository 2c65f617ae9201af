"""HTTP/3: a worker's Chrome speaks it through its tunnel, in both isolations.

Chrome refuses QUIC to a site whose certificate is not from a public authority, unless a switch names that site. Only
this test uses the switch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from lab.net import Lab
from lab.topology import SITE_NAME, WEB_ADDRESS
from tests.fleets import FREE, Rig, running
from tests.inside import Ear, capturing, program, speaking
from tests.system.launching import Puppet, Stage
from tests.waiting import until
from worker.browser.interface import Installed

QUIC, CLOSED = 8443, 8444
"""The site listens on TCP on both, on UDP on the first alone."""
FORCED = ",".join(f"{SITE_NAME}:{port}" for port in (QUIC, CLOSED))
PROTOCOL = "return performance.getEntriesByType('navigation')[0].nextHopProtocol"


class ForcedStage(Stage):
    """A stage whose Chrome uses QUIC to those sites, whatever authority signed their certificate."""

    def installed(self, driver: str) -> Installed:
        """Chrome with that switch in front of the others."""
        found = super().installed(driver)
        wrapper = self.scripts / "chrome"
        wrapper.write_text(f'#!/bin/sh\nexec {found.browser} --origin-to-force-quic-on={FORCED} "$@"\n')
        wrapper.chmod(0o755)
        return dataclasses.replace(found, browser=wrapper)


@pytest.fixture(scope="module")
def site(lab: Lab) -> Iterator[Ear]:
    """The site, which reports each request with its sender and protocol."""
    files = [str(lab.places.site / name) for name in ("cert.pem", "key.pem")]
    both = [f"{WEB_ADDRESS}:{port}" for port in (QUIC, CLOSED)]
    with speaking(lab, "web", program(lab, "one_page", *files, *both, "--quic", both[0]), "(QUIC)") as ear:
        yield ear


@pytest.fixture(scope="module")
def rig(lab: Lab, isolation: str) -> Iterator[Rig]:
    """netctl and one worker's device, in each isolation."""
    with running(lab, isolation=isolation) as made:
        yield made


def test_a_page_over_http3_through_the_tunnel(rig: Rig, site: Ear) -> None:
    """Chrome loads the page over h3, the site sees the exit, and none of its UDP takes the uplink.

    The controls: without a listener on the UDP port the page does not load, without the switch it loads over h2, and
    another UID's UDP to that port is seen.
    """
    puppet = Puppet(ForcedStage(rig.lab, rig), "selenium")
    holder = rig.client()  # after the launch, which ends whatever the UID runs
    with capturing(rig.lab, f"udp port {QUIC} or udp port {CLOSED}") as uplink:
        exit_address = holder.ask(do="connect")["ok"]["exit_address"]
        assert puppet("open", f"https://{SITE_NAME}:{QUIC}/") is None
        assert puppet("_script", PROTOCOL) == "h3"
        assert site.lines(1) == [f"3 {exit_address}"]
        assert puppet("open", f"https://{SITE_NAME}:{CLOSED}/")["error"] == "PageFailed"
        assert puppet("open", f"https://{SITE_NAME}/") is None
        assert puppet("_script", PROTOCOL) == "h2"
        other = rig.client_of(FREE)
        other.ask(do="udp", host=str(WEB_ADDRESS), port=CLOSED)
        until("the control is seen", uplink.says_more)
        assert [line for line in uplink.rest() if f"{WEB_ADDRESS}.{CLOSED}: UDP, length 5" not in line] == []
        other.kill()
    puppet.end()
    holder.kill()
