"""Runs inside a lab's host, not as a test: a host with a desktop's name services, all of which only tell who asks.

    python -m tests.programs.desktop FOLDER

In a mount namespace of its own: /run with the sockets of systemd-resolved, nscd, avahi and D-Bus, a stub resolver on
127.0.0.53, and an /etc that sends every lookup there. A line of JSON for each question; each line of input is the text
of a resolv.conf, which the host then gets twice: by renaming a new file over the old one, and in place.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import socketserver
import struct
import subprocess
import sys
import threading
from pathlib import Path

from fleet.machine import syscalls

NSSWITCH = "passwd: files\ngroup: files\nhosts: mymachines resolve mdns4_minimal dns myhostname\n"
SOCKETS = ("nscd/socket", "systemd/resolve/io.systemd.Resolve", "avahi-daemon/socket", "dbus/system_bus_socket")
ABSTRACT = "\0fleet-test-desktop"
STUB = ("127.0.0.53", 53)
RESOLV = Path("/etc/resolv.conf")


def tell(asked: str, question: bytes) -> None:
    """One line."""
    sys.stdout.write(json.dumps({"asked": asked, "question": question.decode("latin-1")}) + "\n")
    sys.stdout.flush()


def mounts(folder: Path) -> None:
    """A /run and an /etc of this host alone."""
    syscalls.private_mounts()
    syscalls.mount("tmpfs", str(folder), "tmpfs", 0, "mode=0755")
    subprocess.run(["cp", "-a", "/etc/.", str(folder)], check=True)
    syscalls.mount("tmpfs", "/run", "tmpfs", 0, "mode=0755")
    syscalls.mount("tmpfs", "/tmp", "tmpfs", 0, "mode=1777")
    stub = Path("/run/systemd/resolve/stub-resolv.conf")
    stub.parent.mkdir(parents=True)
    stub.write_text(f"nameserver {STUB[0]}\n")
    (folder / "resolv.conf").unlink()
    (folder / "resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    (folder / "nsswitch.conf").write_text(NSSWITCH)
    syscalls.bind(folder, Path("/etc"))


class Hear(socketserver.BaseRequestHandler):
    """Every connection is a question; not root's, as the launcher asks for the worker's account before it is one."""

    def handle(self) -> None:
        name, question = self.server.server_address, b""
        if isinstance(name, str | bytes):
            credentials = self.request.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            if struct.unpack("=iII", credentials)[1] == 0:
                return
        self.request.settimeout(2)
        with contextlib.suppress(OSError):
            question = self.request.recv(4096)
        tell(name if isinstance(name, str) else "abstract" if isinstance(name, bytes) else "stub", question)


class Answer(socketserver.BaseRequestHandler):
    """The question itself with the flags of NXDOMAIN (RFC 1035, 4.1.1): as systemd-resolved, whatever the name."""

    def handle(self) -> None:
        question, stub = self.request
        tell("stub", question)
        stub.sendto(question[:2] + b"\x81\x83" + question[4:], self.client_address)


def serve(server: socketserver.BaseServer) -> None:
    """In a thread."""
    threading.Thread(target=server.serve_forever, daemon=True).start()


def rewrite(text: str) -> None:
    """What NetworkManager, resolvconf and a person with an editor do."""
    fresh = RESOLV.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(RESOLV)
    RESOLV.write_text(f"# changed\n{text}")


def main() -> None:
    """Set up, tell, obey."""
    mounts(Path(sys.argv[1]))
    os.umask(0)  # everybody may talk to them
    socketserver.TCPServer.allow_reuse_address = True
    for name in SOCKETS:
        path = Path("/run") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        serve(socketserver.ThreadingUnixStreamServer(str(path), Hear))
    serve(socketserver.ThreadingUnixStreamServer(ABSTRACT, Hear))
    serve(socketserver.ThreadingTCPServer(STUB, Hear))
    serve(socketserver.ThreadingUDPServer(STUB, Answer))
    tell("ready", b"")
    for line in sys.stdin:
        rewrite(json.loads(line))
        tell("rewritten", b"")


main()
