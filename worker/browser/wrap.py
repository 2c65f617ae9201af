"""The wrapper script that starts Chrome or ChromeDriver, written for one session.

It dies with its parent, sends output where it cannot block, filters the arguments, and execs the program. It is a shell
script because it runs twice at every start, and starting Python would take longer than all of it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

# pdeathsig: Chrome would otherwise outlive a killed worker, with 13 processes. nice: eight browsers keep two cores busy
# for seconds; the small programs that carry their packets (wireguard-go, netctl, the worker's own loop) must go first,
# or a handshake waits for another worker's page. `env -S` splits words, because the kernel passes the rest of a
# script's first line as one argument (execve(2)).
_SCRIPT = """\
#!/usr/bin/env -S setpriv --pdeathsig KILL nice -n 10 sh
# undetected-chromedriver takes a file with the words `undetected chromedriver` for patched: the program below is.
[ "$PPID" != 1 ] || exit 1 # the parent had ended before pdeathsig was set
# The pipes that the driver library opens here are never read; Chrome would freeze after 64 KiB of messages.
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
    """The script for PROGRAM: it puts ADD before the arguments, and removes those that begin with one of DROP."""
    return _SCRIPT.format(
        log=_quoted(log),
        pid=_quoted(pid),
        drop="|".join(f"{_quoted(word)}*" for word in drop) or "''",
        environment=" ".join(f"{name}={_quoted(value)}" for name, value in environment.items()),
        program=" ".join(map(_quoted, (program, *add))),
    )


def _quoted(word: object) -> str:
    return shlex.quote(str(word))
