"""Finds the WireGuard backend of this machine."""

from __future__ import annotations

from typing import Literal

from fleet.backends import BACKENDS, Name
from fleet.errors import MissingProgram
from netctl.kernel.setns import Spaces
from netctl.wireguard import kernel_module, wireguard_go
from netctl.wireguard.contract import WireGuard

_FOUND = {"kernel": kernel_module.found, "userspace": wireguard_go.found}
"""By the backend's name: a function that makes it, or returns None if this kernel has none."""


async def probe(setting: Literal["auto", Name], spaces: Spaces | None = None) -> WireGuard:
    """The backend that SETTING names, for devices in SPACES too; `auto`: the first available. Raises MissingProgram."""
    for name in BACKENDS if setting == "auto" else (setting,):
        if (found := await _FOUND[name](spaces)) is not None:
            return found
    raise MissingProgram(
        "this kernel has no WireGuard", hint='modprobe wireguard, or set wireguard.backend = "userspace"'
    )
