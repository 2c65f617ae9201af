"""The control: an ordinary user, `nobody`, sends the same probes in the clear, in the host's own namespace.

If the capture does not see a probe of the control, it could not have seen that probe of the worker either. This is a
separate program: it reads its order (fleet.probes.ControlOrder) from standard input and answers on standard output.
"""

from __future__ import annotations

import os
import sys

from fleet.probes import ControlAnswer, ControlOrder, reach, resolve, send

NOBODY = 65534
"""The UID of `nobody` on every distribution; no package's and no worker's."""


def main() -> None:
    """Drop root for good, then carry out the order."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    order = ControlOrder.model_validate_json(sys.stdin.readline())
    sent = tuple(send(probe) for probe in order.probes)
    reaches = tuple(reach(target) for target in order.reaches)
    for name in order.lookups:
        resolve(name)
    answer = ControlAnswer(sent=sent, reaches=reaches, echo=resolve(order.echo) if order.echo else ())
    sys.stdout.write(answer.model_dump_json() + "\n")


if __name__ == "__main__":
    main()
