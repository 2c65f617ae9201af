"""The script that stands in front of Chrome and of ChromeDriver, written for one session.

It dies with its parent, sends its output where it cannot block, tidies the arguments, becomes the program. A shell: it
runs twice at every start, and Python alone would take longer than all of it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

# Chrome outlives a killed worker otherwise: 13 processes stay. And eight browsers keep two cores busy for seconds: what
# carries their packets (wireguard-go, netctl, the worker's own loop) is small and goes first, or a handshake waits
# behind somebody else's page. `env -S` splits words: the kernel gives a script's first line as one (execve(2)).
_SCRIPT = """\
#!/usr/bin/env -S setpriv --pdeathsig KILL nice -n 10 sh
# For undetected-chromedriver a file with the words `undetected chromedriver` is patched: the program below is.
[ "$PPID" != 1 ] || exit 1 # the parent was gone before its death was to be told
# Nobody reads the pipes the driver library opens here; Chrome would freeze after 64 KiB of messages.
exec </dev/null >{log} 2>&1
echo $$ >{pid}
for word do
    shift
    case $word in {drop}) ;; *) set -- "$@" "$word" ;; esac
done
export {environment}
exec {program} "$@"
"""


def script(
    program: Path, add: Iterable[str], *, drop: Iterable[str], log: Path, pid: Path, environment: Mapping[str, str]
) -> str:
    """The text for PROGRAM: with ADD in front of its arguments, without those that begin as one of DROP."""
    return _SCRIPT.format(
        log=_quoted(log),
        pid=_quoted(pid),
        drop="|".join(f"{_quoted(word)}*" for word in drop) or "''",
        environment=" ".join(f"{name}={_quoted(value)}" for name, value in environment.items()),
        program=" ".join(map(_quoted, (program, *add))),
    )


def _quoted(word: object) -> str:
    return shlex.quote(str(word))
