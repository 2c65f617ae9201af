"""Runs inside a lab's host, not as a test: a host with a desktop's name services, all of which only tell who asks.

    python -m tests.programs.desktop FOLDER

In a mount namespace of its own: /run with the sockets of systemd-resolved, nscd, avahi and D-Bus, a stub resolver on
127.0.0.53, and an /etc that sends every lookup there. A line of JSON for each question; each line of input is the text
of a resolv.conf, which the host then gets twice: by renaming a new file over the old one, and in place.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

from fleet import syscalls

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


def listen(address: str) -> None:
    """A Unix socket that everybody may talk to."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(address)
    if not address.startswith("\0"):
        Path(address).chmod(0o666)
    server.listen()
    threading.Thread(target=hear, args=(server, address), daemon=True).start()


def is_root(connection: socket.socket) -> bool:
    """Whether root asks: the launcher does, before it becomes the worker, for the worker's account."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return bool(struct.unpack("=iII", credentials)[1] == 0)


def hear(server: socket.socket, name: str) -> None:
    """Every connection is a question."""
    while True:
        connection, _ = server.accept()
        with connection:
            if server.family == socket.AF_UNIX and is_root(connection):
                continue
            connection.settimeout(2)
            try:
                tell(name, connection.recv(4096))
            except OSError:
                tell(name, b"")


def stub_resolver() -> None:
    """Over UDP and TCP, as systemd-resolved's: whatever the name, there is none such."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(STUB)
    server.listen()
    threading.Thread(target=hear, args=(server, "stub"), daemon=True).start()
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(STUB)
    threading.Thread(target=answer, args=(datagrams,), daemon=True).start()


def answer(datagrams: socket.socket) -> None:
    """The question itself with the flags of NXDOMAIN (RFC 1035, 4.1.1)."""
    while True:
        question, asker = datagrams.recvfrom(4096)
        tell("stub", question)
        datagrams.sendto(question[:2] + b"\x81\x83" + question[4:], asker)


def rewrite(text: str) -> None:
    """What NetworkManager, resolvconf and a person with an editor do."""
    fresh = RESOLV.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(RESOLV)
    RESOLV.write_text(f"# changed\n{text}")


def main() -> None:
    """Set up, tell, obey."""
    mounts(Path(sys.argv[1]))
    os.umask(0)
    for name in SOCKETS:
        path = Path("/run") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        listen(str(path))
    listen(ABSTRACT)
    stub_resolver()
    tell("ready", b"")
    for line in sys.stdin:
        rewrite(json.loads(line))
        tell("rewritten", b"")


main()
