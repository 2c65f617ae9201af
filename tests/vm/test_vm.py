"""The contract suite on the kernel's own WireGuard, in a virtual machine; its output is shown as it is."""

from __future__ import annotations

import pytest

from tests.vm import machine

SECONDS = 600
"""For everything inside; an idle machine needs a third."""


def test_the_contract_holds_on_the_kernels_wireguard(
    running: machine.Running, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every contract test with the ground `kernel`, and what needs a clock that may be stepped."""
    try:
        code, output = running.outcome(SECONDS)
    except machine.MachineFailed as error:
        pytest.fail(str(error), pytrace=False)
    with capsys.disabled():
        print(f"\n{output}")
    assert code == 0, output
