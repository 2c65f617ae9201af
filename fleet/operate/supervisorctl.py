"""Runs supervisorctl in this process, so that its output, workers' logs included, passes fleet.visible.

Its own `tail` transfers the text as XML, which cannot carry control characters or incomplete UTF-8; a worker's log may
hold both. So `tail` reads the file here. `tail -f` is supervisorctl's own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from supervisor import supervisorctl
from supervisor.options import ClientOptions

from fleet.model import Paths

_TAIL = re.compile(r"(?:-([0-9]+)\s+)?(?:\w+:)?(\w+)(?:\s+stdout)?\s*")
_BYTES = 1600
"""What supervisorctl shows when no number is given."""


def main(paths: Paths, words: Sequence[str]) -> None:
    """Run the command WORDS, or prompt for commands; ends with supervisorctl's own exit code."""
    options = ClientOptions()
    # The first plug-in that has a command runs it.
    options.plugin_factories.insert(0, ("tail", _Tail, {"paths": paths, "otherwise": options.plugin_factories[0][1]}))
    supervisorctl.main(["-c", str(paths.supervisor_config), *words], options)


class _Tail:
    def __init__(self, controller: Any, paths: Paths, otherwise: Any) -> None:
        self._controller, self._paths, self._otherwise = controller, paths, otherwise(controller)

    def do_tail(self, words: str) -> None:
        asked = _TAIL.fullmatch(words)
        if asked is None or not (path := self._paths.log(asked[2])).is_file():
            self._otherwise.do_tail(words)
            return
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - int(asked[1] or _BYTES)))
            self._controller.output(file.read().decode(errors="replace"))
