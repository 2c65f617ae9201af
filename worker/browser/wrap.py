# Stands in front of Chrome and of ChromeDriver. A session writes this file, with a `#!` line before it,
# to NAME and the orders beside it to NAME.json; standard library only, and little of it: it runs at
# every start. For undetected-chromedriver a driver file that holds the words `undetected chromedriver`
# is patched already: the real file behind this one is.
"""Dies with its parent, sends its output where it cannot block, tidies the arguments, becomes the program."""

import ctypes
import json
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Orders: program, log (a FIFO that is always read), pid (file), drop (prefixes), add, environment."""
    with open(sys.argv[0] + ".json", encoding="utf-8") as file:  # noqa: PTH123 - no pathlib: start-up time
        orders = json.load(file)
    # Chrome outlives a killed worker otherwise: 13 processes stay.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() == 1:
        sys.exit(1)  # the parent was gone before the line above
    # Eight browsers keep two cores busy for seconds: what carries their packets (wireguard-go, netctl, the
    # worker's own loop) is small and goes first, or a handshake waits behind somebody else's page.
    os.nice(10)
    # Nobody reads the pipes the driver library opens here; Chrome would freeze after 64 KiB of messages.
    log = os.open(orders["log"], os.O_WRONLY)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    with open(orders["pid"], "w", encoding="ascii") as file:  # noqa: PTH123
        file.write(str(os.getpid()))
    arguments = [word for word in sys.argv[1:] if not word.startswith(tuple(orders["drop"]))]
    program, environment = orders["program"], {**os.environ, **orders["environment"]}
    try:
        os.execve(program, [program, *orders["add"], *arguments], environment)  # noqa: S606 - no shell wanted
    except OSError as error:
        sys.exit(f"{program}: {error.strerror}")  # the session tells this line, and no traceback


if __name__ == "__main__":
    main()
