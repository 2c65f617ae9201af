"""One change of the kernel."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.isolation import HOST
from netctl.plan.things import Thing, Verb, Way


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One change of the kernel; its text is the command that an administrator would type for it."""

    verb: Verb
    thing: Thing

    def __str__(self) -> str:
        text, space = self.thing.describe(self.verb), self.space
        if space == HOST:
            return text
        return f"ip -n {space}{text[2:]}" if text.startswith("ip ") else f"ip netns exec {space} {text}"

    @property
    def space(self) -> str:
        """The namespace it is done in: what makes a namespace, or moves a link there, is done in the host's."""
        return self.thing.place(self.verb)

    @property
    def way(self) -> Way:
        """How it is done."""
        return (self.verb == "delete" and self.thing.way_out) or self.thing.way
