"""Deletes a link in a process of its own, with a deadline.

Deleting a kernel WireGuard link closes sockets, frees peers, destroys three workqueues and waits for RCU in
the caller (wg_destruct in drivers/net/wireguard/device.c). That is slow or stuck for ever whenever the kernel's
network lock or RCU is, and a caller that is stuck there cannot even be killed. So netctl itself never does it.

Run as a script (`python -I -S removal.py INDEX DESCRIPTOR`) this file is that process; it imports only the standard
library and takes 20 ms.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
import sys

DEADLINE_SECONDS = 5.0
RTM_DELLINK, NLM_F_REQUEST, NLM_F_ACK = 17, 0x1, 0x4
_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
"""struct ifinfomsg (linux/rtnetlink.h): family, type, index, flags, change."""


def opened() -> socket.socket:
    """A socket that deletes in the network namespace of the calling thread, whichever process uses it."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)


async def delete(index: int, netlink: socket.socket) -> bool:
    """Delete the link INDEX through NETLINK; False when that is refused or takes longer than DEADLINE_SECONDS.

    A process that is stuck in the kernel is left alone; it ends when the kernel lets it.
    """
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", __file__, str(index), str(netlink.fileno())),
        stdin=asyncio.subprocess.DEVNULL,
        pass_fds=(netlink.fileno(),),
    )
    ended = asyncio.ensure_future(child.wait())
    done, _ = await asyncio.wait({ended}, timeout=DEADLINE_SECONDS)
    if not done:
        child.kill()  # without effect while the kernel holds it
        return False
    return ended.result() == 0


def delete_now(index: int, descriptor: int) -> int:
    """Delete the link INDEX and wait for the kernel's answer: returns 0, also for a missing link, or the errno."""
    with socket.socket(fileno=descriptor) as netlink:
        body = _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0)
        netlink.send(_HEADER.pack(_HEADER.size + len(body), RTM_DELLINK, NLM_F_REQUEST | NLM_F_ACK, 1, 0) + body)
        answer = netlink.recv(4096)
    (code,) = struct.unpack_from("=i", answer, _HEADER.size)
    return 0 if -code == errno.ENODEV else -int(code)


if __name__ == "__main__":
    sys.exit(delete_now(*map(int, sys.argv[1:])))
