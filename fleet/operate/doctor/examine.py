"""All checks in the order of the report, and the repairs that are safe without asking."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fleet.operate.doctor import dropins, host, network, own
from fleet.operate.doctor.dropins import DropIn
from fleet.operate.doctor.finding import Finding, Seen, Verdict, error
from fleet.operate.doctor.machine import Case


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check, and why it matters."""

    name: str
    why: str
    look: Callable[[Case], Seen]

    def on(self, case: Case) -> Finding:
        """The finding on CASE."""
        try:
            seen = self.look(case)
        except (OSError, ValueError, LookupError) as reason:
            # A check that fails, at an odd file or answer, must not stop the other checks.
            seen = error(
                f"this check could not run: {type(reason).__name__}: {reason}", "report this, with --json's output"
            )
        return Finding(
            name=self.name,
            verdict=seen.verdict,
            seen=seen.text,
            why=self.why,
            command=seen.command,
            fixable=seen.fixable,
        )


CHECKS = (
    Check(name="settings", why="everything derives from fleet.toml", look=own.settings),
    Check(
        name="accounts",
        why="the kernel tells workers apart by UID: rules on another person's UID would block that person",
        look=own.accounts,
    ),
    Check(name="wireguard", why="without it there is no tunnel", look=network.wireguard),
    Check(name="nftables", why="the kill switch and the translation of addresses are a table", look=network.nftables),
    Check(
        name="namespaces",
        why="with isolation netns each worker has its own network namespace, which has a name",
        look=network.namespaces,
    ),
    Check(
        name="rp-filter",
        why="tunnels have no address, so the kernel's reverse path filter would drop every answer",
        look=network.reverse_path_filters,
    ),
    Check(
        name="networkd",
        why="systemd-networkd removes rules and routes of others when it reconfigures an interface or gets another "
        "address: workers are cut off until netctl has put them back",
        look=dropins.networkd,
    ),
    Check(
        name="networkmanager",
        why="NetworkManager may put addresses on a tunnel or take it down: pages of all workers die",
        look=dropins.network_manager,
    ),
    Check(
        name="resolved",
        why="systemd-resolved sends a worker's question outside the tunnel, under its own UID",
        look=network.resolved,
    ),
    Check(
        name="docker",
        why="a container's start or end is an address event, and Chrome drops its requests on each "
        "(ERR_NETWORK_CHANGED)",
        look=network.docker,
    ),
    Check(
        name="sandbox",
        why="without Chrome's sandbox a page that breaks out of the browser has the worker's UID",
        look=host.sandbox,
    ),
    Check(name="browser", why="a ChromeDriver drives only the Chrome of its own version", look=host.browser),
    Check(
        name="fonts", why="without them Korean, Japanese and Chinese pages are boxes in screenshots", look=host.fonts
    ),
    Check(
        name="shared-memory",
        why="Chrome passes pictures through /dev/shm, and its profile lies in /tmp, which is memory",
        look=host.shared_memory,
    ),
    Check(name="memory", why="the kernel kills browsers when memory runs out", look=host.memory),
    Check(
        name="open-files", why="a browser with a hundred requests holds hundreds of descriptors", look=host.open_files
    ),
    Check(
        name="clock",
        why="WireGuard's replay guard refuses a key from a host whose clock is behind its last user's",
        look=host.clock,
    ),
    Check(
        name="foreign-objects",
        why="netctl never changes an object that is not its own, and refuses to start while one is in its place",
        look=own.foreign,
    ),
    Check(
        name="left-over",
        why="objects that an earlier run left in the kernel still block its UIDs",
        look=own.left_over,
    ),
)


AT_START = ("nftables", "sandbox", "shared-memory", "open-files")
"""Quick checks of what would otherwise fail minutes later, in a worker's log."""


def examine(case: Case, watch: Callable[[str], None] = lambda _: None) -> Iterator[Finding]:
    """Every finding, one by one; WATCH is told the name of each check before it begins."""
    for check in CHECKS:
        watch(check.name)
        yield check.on(case)


def at_start(case: Case) -> Iterator[Finding]:
    """The errors of the quick checks."""
    findings = (check.on(case) for check in CHECKS if check.name in AT_START)
    return (finding for finding in findings if finding.verdict is Verdict.ERROR)


def fix(case: Case, findings: list[Finding]) -> Iterator[str]:
    """Repair what is safe to repair, and say each thing done; raises FleetError. Starts and stops no service."""
    for finding in findings:
        mend = _MENDS.get(finding.name)
        if finding.fixable and finding.verdict is not Verdict.OK and mend is not None:
            yield f"{finding.name}: {mend(case)}"


def _networkd(case: Case) -> str:
    path = dropins.install(case.paths.root, DropIn(path=dropins.NETWORKD, text=dropins.networkd_text()))
    return f"wrote {path}; to make it count: fleet down, then systemctl restart systemd-networkd"


def _network_manager(case: Case) -> str:
    text = dropins.network_manager_text(case.fleet)
    path = dropins.install(case.paths.root, DropIn(path=dropins.NETWORK_MANAGER, text=text))
    return f"wrote {path}; to make it count: systemctl reload NetworkManager"


def _left_over(case: Case) -> str:
    answer = case.ours("netctl", "cleanup")
    if answer.code:
        raise answer.error
    return f"removed: {'; '.join(answer.out.split(chr(10))).strip('; ')}"


_MENDS: dict[str, Callable[[Case], str]] = {
    "networkd": _networkd,
    "networkmanager": _network_manager,
    "left-over": _left_over,
}
"""No packages, no sysctls, no fonts: what changes the machine for others is the operator's to type."""
