"""How many of the host's local ports one worker can take: its sockets are bounded, over all its processes."""

from __future__ import annotations

import json

import pytest

from fleet.machine import cgroups
from lab.net import Lab
from tests.system.launching import Stage

MOST, PROCESSES, EACH = 512, 4, 300
"""Together the processes try for twice as many as there may be, each for fewer than its limit of open files."""
HOLD = f"""
import errno, json, os, socket, time
def listening():  # takes a port without bind(2), of which Landlock would hear
    made = socket.socket()
    made.listen()
    return made
def sending():
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.connect(("127.0.0.1", 9))
    return made
def both():
    made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    made.bind(("::", 0))
    return made
def take(most):
    held, refused = [], None
    while len(held) < most and refused is None:
        try:
            held.append((listening, sending, both)[len(held) % 3]())
        except OSError as error:
            refused = errno.errorcode[error.errno]
    return held, refused
read, write = os.pipe()
gone, stay = os.pipe()
for _ in range({PROCESSES}):
    if os.fork() == 0:
        held, refused = take({EACH})
        ports = {{one.getsockname()[1] for one in held}}
        os.write(write, json.dumps([len(held), len(ports), refused]).encode() + b"\\n")
        os.close(stay)
        os.read(gone, 1)
        os._exit(0)
with os.fdopen(read) as lines:
    told = [json.loads(lines.readline()) for _ in range({PROCESSES})]
    meanwhile = take(1)[1]
    os.close(stay)
    for _ in range({PROCESSES}):
        os.wait()
again, _ = take({EACH})
held = len(again)
# Connections that accept(2) gives, and their ends, make no room for more.
server = again[0]
for _ in range(200):
    with socket.socket() as client:
        client.connect(("127.0.0.1", server.getsockname()[1]))
        server.accept()[0].close()
more, refused = take({MOST})
pairs = [socket.socketpair() for _ in range(100)]
found = {{"told": told, "meanwhile": meanwhile, "again": held, "in all": held + len(more), "at last": refused}}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def stage(lab: Lab) -> Stage:
    """The worker's account and folders in the lab's host."""
    return Stage(lab)


def test_no_number_of_processes_takes_more_ports(stage: Stage) -> None:
    """Bind, connect, listen, IPv4, IPv6: a worker's processes share one bound on sockets; a closed one makes room."""
    done = stage.run(stage.python(HOLD), sockets=MOST, ports=[])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert sum(count for count, _, _ in found["told"]) == MOST
    assert "EPERM" in [refused for _, _, refused in found["told"]] and found["meanwhile"] == "EPERM"
    assert (found["again"], found["in all"], found["at last"]) == (EACH, MOST, "EPERM")


def test_without_the_bound_they_take_all_they_ask_for(stage: Stage) -> None:
    """The control: without its own control group, a worker's processes get a port with every socket."""
    done = stage.run(stage.python(HOLD), sockets=MOST, cgroup="")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [count for count, _, _ in found["told"]] == [EACH] * PROCESSES
    assert sum(ports for _, ports, _ in found["told"]) > MOST


def test_nothing_of_it_stays(stage: Stage) -> None:
    """A worker's own control group is removed after it ends, and with it the kernel's counter."""
    group = cgroups.of_worker(stage.worker.name, cgroups.own())
    said = stage.run(stage.python("print(open('/proc/self/cgroup').read())")).stdout
    assert group is not None and f"/{group.name}\n" in said
    assert not group.exists()
