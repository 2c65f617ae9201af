"""Stores the rp_filter values of other interfaces before netctl changes them, so that cleanup can restore them.

`all` has to be 0 for a link without an address; every other interface's value is raised to the old value of `all`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable

from fleet.isolation import HOST
from fleet.machine.files import write_durably
from fleet.machine.processes import boot_id
from fleet.model import Paths, Worker
from netctl.plan.diff import Operation
from netctl.plan.state import State
from netctl.plan.things import Sysctl

_Values = dict[tuple[str, ...], tuple[int, int]]
"""By path: the old value, and the value that netctl has set."""


class FirstValues:
    """A file in the key store's folder. It is ignored if it is from another boot or network namespace."""

    def __init__(self, paths: Paths) -> None:
        self._path = paths.key_store.with_name("rp_filter.json")

    def note(self, operations: Iterable[Operation], observed: State) -> None:
        """Store the OBSERVED values of the host that OPERATIONS are about to change.

        The first value is kept, unless another program has set another one since.
        """
        before = {one.path: one.value for one in observed.sysctls}
        values = self._read()
        for thing in (operation.thing for operation in operations):
            if isinstance(thing, Sysctl) and thing.path[-1] == "rp_filter" and not Worker.of_interface(thing.path[3]):
                now = before.get(thing.path, thing.value)
                first, ours = values.get(thing.path, (now, now))
                values[thing.path] = (first if now == ours else now, thing.value)
        if values:
            self._write(values)

    def restored(self, observed: State) -> list[Operation]:
        """Operations that restore the first values where netctl's are still set; `all` first, so that no interface is
        filtered less meanwhile."""
        now = {one.path: one.value for one in observed.sysctls if one.space == HOST}
        found = [Sysctl(path=path, value=old) for path, (old, ours) in self._read().items() if now.get(path) == ours]
        changed = [one for one in found if now[one.path] != one.value]
        changed.sort(key=lambda one: (one.path[3] != "all", one.path))
        return [Operation(verb="set", thing=one) for one in changed]

    def forget(self) -> None:
        """Remove the file after the values were restored."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> _Values:
        try:
            found = json.loads(self._path.read_text())
            if found["where"] != _where():
                return {}
            return {tuple(path): (int(old), int(ours)) for path, old, ours in found["values"]}
        except (OSError, ValueError, KeyError, TypeError):
            return {}  # missing or not valid

    def _write(self, values: _Values) -> None:
        listed = [[[*path], old, ours] for path, (old, ours) in values.items()]
        write_durably(self._path, json.dumps({"where": _where(), "values": listed}).encode())


def _where() -> str:
    return f"{boot_id()} {os.stat('/proc/self/ns/net').st_ino}"  # noqa: PTH116 - a link that leads to no path
