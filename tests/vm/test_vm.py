"""The contract suite on the kernel's own WireGuard, in a virtual machine; its output is shown as it is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.vm import kernel_package, machine

CHECKOUT = Path(__file__).resolve().parents[2]
SECONDS = 600
"""For everything inside; an idle machine needs a third."""
SETTINGS = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "NO_COLOR": "1",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # each takes seconds to import here
    # Writes go to memory and are lost; compiling for them is time spent for nothing.
    "PYTHONDONTWRITEBYTECODE": "1",
}


def test_the_contract_holds_on_the_kernels_wireguard(root: None, capsys: pytest.CaptureFixture[str]) -> None:
    """Every contract test with the ground `kernel`, and what needs a clock that may be stepped."""
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--ground=kernel",
        "--durations=5",
        "tests/contract",
    ]
    try:
        outcome = machine.run(kernel_package.ready(), argv, CHECKOUT, SETTINGS, SECONDS)
    except (kernel_package.NoKernel, machine.MachineFailed) as error:
        pytest.fail(str(error), pytrace=False)
    with capsys.disabled():
        print(f"\n{outcome.output}")
    assert outcome.code == 0, "the suite inside failed; its output stands above"
