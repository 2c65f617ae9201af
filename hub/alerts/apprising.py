"""Tells of an alert by apprise, which knows a hundred services: `launch.py hub.alerts.apprising`, a process of its own.

It gets the address, which is a secret, on standard input. What the library logs may repeat that, so nobody reads it.
"""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    """Answer one question: whether it is sent, null where the address is none."""
    import apprise

    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a service's plug-in may print
    asked = json.loads(sys.stdin.buffer.readline())
    one = apprise.Apprise.instantiate(asked["url"], suppress_exceptions=True)
    sent = None if one is None else bool(one.notify(title=asked["title"], body=asked["body"], body_format="text"))
    answer.write(json.dumps({"sent": sent}))
    answer.close()


if __name__ == "__main__":
    main()
