"""All checks in the order of the report, and the repairs that are safe without asking."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fleet.operate.doctor import dropins, host, network, others, own, ways
from fleet.operate.doctor.check import Check, Finding, Verdict
from fleet.operate.doctor.machine import Case

CHECKS: tuple[Check, ...] = (
    own.settings,
    own.task,
    own.accounts,
    others.second_fleet,
    others.logout,
    network.wireguard,
    network.nftables,
    network.namespaces,
    network.browser_ports,
    network.reverse_path_filters,
    ways.uplink,
    ways.rules,
    ways.placeholders,
    ways.filters,
    ways.firewalls,
    ways.connections,
    dropins.networkd,
    dropins.network_manager,
    network.resolved,
    network.docker,
    host.sandbox,
    others.programs,
    host.browser,
    host.fonts,
    host.shared_memory,
    host.memory,
    host.room,
    host.open_files,
    host.clock,
    own.foreign,
    own.left_over,
)
AT_START = (network.nftables, network.browser_ports, host.sandbox, host.shared_memory, host.open_files)
"""Quick checks that `fleet up` runs: these faults would otherwise appear only minutes later, in a worker's log."""
_LOGOUT = (others.logout.name, Verdict.WARNING)
_MENDS: dict[str, Callable[[Case], str]] = {
    dropins.networkd.name: dropins.install_networkd,
    dropins.network_manager.name: dropins.install_network_manager,
    own.left_over.name: own.clean_up,
}
"""No packages, no sysctls, no fonts: what changes the machine for other programs is left to the operator."""


def at_start(case: Case) -> Iterator[Finding]:
    """The findings of the quick checks that are errors, and a login that would end the fleet."""
    found = (check.on(case) for check in (*AT_START, others.logout))
    return (one for one in found if one.verdict is Verdict.ERROR or (one.name, one.verdict) == _LOGOUT)


def fix(case: Case, findings: list[Finding]) -> Iterator[str]:
    """Repair what is safe to repair and yield each repair in words; raises FleetError. Starts and stops no service."""
    for finding in findings:
        if finding.fixable and finding.name in _MENDS:
            yield f"{finding.name}: {_MENDS[finding.name](case)}"
