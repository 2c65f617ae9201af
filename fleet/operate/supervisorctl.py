"""supervisorctl in this process: what it shows, logs of workers included, passes our standard output (fleet.visible).

Its own `tail` asks for the text over XML, which carries no control character and no half letter; a worker's log may
hold both. So the file is read here. `tail -f` comes as it is.
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
"""What supervisorctl shows where no number is said."""


def main(paths: Paths, words: Sequence[str]) -> None:
    """Do what WORDS say, or ask for words; ends with supervisorctl's own exit code."""
    options = ClientOptions()
    # The first plug-in that knows a word does it.
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
