"""Sends an alert through apprise, which supports a hundred services; a process: `launch.py hub.alerts.apprising`.

It gets the address, which is a secret, on standard input. The library may log it, so its output is discarded.
"""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    """Answer one question: whether the message was sent, null if apprise does not know the address."""
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
