"""The shortcut past the policy rules of all workers, in the host's namespace."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from fleet.model import FIRST_UID, LAST_UID, PLACEHOLDERS_V6, PROTOCOL
from fleet.numbers import SHORTCUTS, placeholders
from netctl.plan.things import Family, Thing, Verb


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortcut(Thing):
    """A rule that goes on at a later one, or that is where another goes on."""

    part = "shortcuts"

    family: Family
    priority: int
    source: IPv4Network | IPv6Network | None = None
    but_uids: tuple[int, int] | None = None
    """For every UID but these, first and last."""
    goto: int | None = None
    """The priority to go on at; None: the rule does nothing."""
    listed: bytes = field(default=b"", repr=False)
    """The rule as the kernel lists it, if it has attributes that netctl never sets."""

    @property
    def to_workers(self) -> bool:
        """Whether it is of the way to the workers' rules, for their packets without a UID, not of the one past them."""
        return self.priority in (SHORTCUTS[0], SHORTCUTS[2])

    def describe(self, verb: Verb) -> str:
        who = f"from {self.source or 'all'}" if self.but_uids is None else "not uidrange {}-{}".format(*self.but_uids)
        what = "nop" if self.goto is None else f"goto {self.goto}"
        return f"ip -{self.family} rule {verb} {who} {what} priority {self.priority} protocol {PROTOCOL}"


def shortcuts(family: Family) -> Iterable[Shortcut]:
    """Past the rules of all workers, for packets that are no worker's.

    The kernel tries one rule after another for each packet of the host, and a worker has four: with 200 workers this
    took 4.5 us a packet, with 512 11.4, and with the shortcut 0.2. A rule that leads to a missing one is ignored
    (FIB_RULE_UNRESOLVED in net/core/fib_rules.c), so what is left of a shortcut only costs time.
    """
    workers, others, first, last = SHORTCUTS
    network = placeholders() if family == 4 else PLACEHOLDERS_V6
    # What the kernel sends for a worker's closed socket has no UID.
    yield Shortcut(family=family, priority=workers, source=network, goto=first)
    yield Shortcut(family=family, priority=others, but_uids=(FIRST_UID, LAST_UID), goto=last)
    yield Shortcut(family=family, priority=first)
    yield Shortcut(family=family, priority=last)
