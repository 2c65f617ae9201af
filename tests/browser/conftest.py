"""The odd site, and a browser that is moved through it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.net import Lab
from lab.topology import WEB_ADDRESS
from tests.browser.cases import PORT
from tests.inside import Ear, program, speaking
from tests.system.launching import Puppet, Stage

LIMITS = {"page_load_timeout_seconds": 8}


@pytest.fixture(scope="session")
def site(lab: Lab) -> Iterator[Ear]:
    """The odd site, and what it is asked for."""
    keys = lab.places.site
    arguments = (str(keys / "cert.pem"), str(keys / "key.pem"), str(WEB_ADDRESS), str(PORT))
    with speaking(lab, "web", program(lab, "odd_site", *arguments), "ready") as made:
        yield made


@pytest.fixture(scope="session")
def stage(lab: Lab) -> Stage:
    """The worker's account and folders in the lab's host."""
    return Stage(lab)


@pytest.fixture(scope="module")
def browser(stage: Stage) -> Iterator[Puppet]:
    """One browser for tests that are about no driver."""
    made = Puppet(stage, "selenium", settings=LIMITS)
    yield made
    made.end()
