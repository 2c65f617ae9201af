"""What netctl remembers of others' rp_filter, and puts back."""

from __future__ import annotations

from pathlib import Path

from fleet.model import Paths
from netctl.plan.desired import rp_filter
from netctl.plan.diff import Operation, diff
from netctl.plan.state import State
from netctl.plan.things import Sysctl
from netctl.slots.rp_filter import FirstValues


class Host:
    """The values of a host on which netctl is at work."""

    def __init__(self, root: Path, **values: int) -> None:
        paths = Paths(root=root)
        paths.key_store.parent.mkdir(parents=True)
        self.first, self.values = FirstValues(paths), values

    @property
    def state(self) -> State:
        """As netctl observes it."""
        return State(sysctls=frozenset(rp_filter(name, value) for name, value in self.values.items()))

    def heal(self) -> None:
        """As netctl does, at its start and whenever somebody else has changed a value."""
        operations = diff(State(sysctls=frozenset({rp_filter("all", 0)})), self.state)
        self.first.note(operations, self.state)
        self._apply(operations)

    def stop(self) -> dict[str, int]:
        """As `netctl cleanup`; what stands then."""
        self._apply(tuple(self.first.restored(self.state)))
        return self.values

    def _apply(self, operations: tuple[Operation, ...]) -> None:
        for thing in (one.thing for one in operations):
            assert isinstance(thing, Sysctl)
            self.values[thing.path[3]] = thing.value


def test_what_was_there_comes_back(tmp_path: Path) -> None:
    """`all` and what was raised in its place; healed again and again, by this netctl or the next."""
    host = Host(tmp_path, all=1, default=0, lo=0, uplink=2)
    for _ in range(3):
        host.heal()
        assert host.values == {"all": 0, "default": 1, "lo": 1, "uplink": 2}
    assert host.stop() == {"all": 1, "default": 0, "lo": 0, "uplink": 2}


def test_what_somebody_sets_meanwhile_is_what_comes_back(tmp_path: Path) -> None:
    """Loose in the place of strict: nobody finds the strict filter again after the stop."""
    host = Host(tmp_path, all=1, default=0, lo=0, uplink=0)
    host.heal()
    host.values["all"] = 2
    host.heal()
    assert host.values == {"all": 0, "default": 2, "lo": 2, "uplink": 2}
    host.values["uplink"] = 1
    assert host.stop() == {"all": 2, "default": 0, "lo": 0, "uplink": 1}
