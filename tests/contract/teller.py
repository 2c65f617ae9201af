"""Asks the teller, which is beyond the VPN servers and answers with the address it was asked from."""

from __future__ import annotations

import ctypes
import socket
from ipaddress import IPv4Address

TELLER = ("203.0.113.80", 7)
ASK_SECONDS = 2.0
_libc = ctypes.CDLL(None, use_errno=True)


def ask(uid: int) -> IPv4Address | None:
    """Ask the teller from a socket of UID, in this thread, which ends behind it.

    setfsuid(2) is the thread's own; the kernel takes a socket's owner from it (sock_alloc in net/socket.c).
    """
    _libc.setfsuid(uid)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(ASK_SECONDS)
        try:
            asking.sendto(b"who am I?", TELLER)
            return IPv4Address(asking.recv(100).decode())
        except OSError:  # refused by a rule, dropped (EPERM), or no answer in time
            return None
