"""The error of a program as data, for the program that started it: written in one place, read in one place.

With FLEET_ERRORS=json in its environment a program repeats its error on the last line of its standard error, after its
words for people, in the frame in which an error crosses a socket (fleet.wire). What ends before it can do so (Python
itself, setpriv) or is no program of the fleet has plain words alone.
"""

from __future__ import annotations

import os
import sys

from fleet import wire
from fleet.errors import FleetError, causes, from_wire

ENVIRONMENT = {"FLEET_ERRORS": "json"}
"""What a program is started with by whoever reads its error."""


def tell(error: Exception) -> None:
    """Repeat ERROR as data on standard error, where the environment asks for it."""
    if ENVIRONMENT.items() <= os.environ.items():
        sys.stderr.write(wire.encode_error(_with_causes(error)).decode())


def told(said: str, otherwise: str) -> FleetError:
    """The error of a program that SAID this on standard error: the one on its last line.

    Without one it is a FleetError of the plain words, or of OTHERWISE where there are none.
    """
    lines = said.rstrip().split("\n")  # splitlines() would also split inside a message
    if error := wire.decode_error(lines[-1].encode()):
        return error
    # Log lines are JSON objects.
    words = [line.strip() for line in lines if line.strip() and not line.startswith("{")]
    return FleetError("\n".join(words) or otherwise)


def _with_causes(error: Exception) -> FleetError:
    """ERROR with the words and hints of its causes, which do not cross by themselves."""
    chain = list(causes(error))
    first = "" if isinstance(error, FleetError) else f"{type(error).__name__}: "
    return from_wire(
        type(error).__name__,
        {
            "message": first + "\n".join(str(one) or type(one).__name__ for one in chain),
            "hint": "; ".join(one.hint for one in chain if isinstance(one, FleetError) and one.hint),
            "data": error.data if isinstance(error, FleetError) else {},
        },
    )
