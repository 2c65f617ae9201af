"""Notifies systemd, when it started this program (sd_notify(3)); without systemd it does nothing."""

from __future__ import annotations

import os
import socket


def ready() -> None:
    """Report that the fleet is up: `systemctl start` returns, and units ordered after this one start."""
    place = os.environ.pop("NOTIFY_SOCKET", "")
    if not place:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.connect(f"\0{place[1:]}" if place.startswith("@") else place)
        made.send(b"READY=1")
