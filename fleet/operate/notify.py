"""What systemd is told by the program that it started (sd_notify(3)); without systemd nobody is told anything."""

from __future__ import annotations

import os
import socket


def ready() -> None:
    """The fleet is up: `systemctl start` returns, and units that come after this one start."""
    place = os.environ.pop("NOTIFY_SOCKET", "")
    if not place:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.connect(f"\0{place[1:]}" if place.startswith("@") else place)
        made.send(b"READY=1")
