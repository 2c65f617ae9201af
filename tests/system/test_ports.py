"""A browser's two ports are reserved for their owner: no other user can bind to one first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack

import pytest

from fleet.model import Worker
from fleet.operate import ports

OWNER, NEIGHBOUR, NOBODY = Worker(uid=1182), Worker(uid=1183), 65534
BESIDE = (min(OWNER.browser_ports) - 1, max(NEIGHBOUR.browser_ports) + 1)
"""The first port below and the first above."""
TAKES = """
import errno, json, socket, sys
V4, V6, STREAM, SO_REUSEPORT, MPTCP = socket.AF_INET, socket.AF_INET6, socket.SOCK_STREAM, 15, 262
def take(port, family, host, kind=STREAM, protocol=0, option=socket.SO_REUSEADDR):
    try:
        with socket.socket(family, kind, protocol) as made:
            made.setsockopt(socket.SOL_SOCKET, option, 1)
            made.bind((host, port))
    except OSError as error:
        return errno.errorcode[error.errno]
    return "taken"
def ways(port):
    yield take(port, V4, "127.0.0.1")
    yield take(port, V4, "127.0.0.1", option=SO_REUSEPORT)
    yield take(port, V4, "0.0.0.0")
    yield take(port, V4, "127.9.9.9")
    yield take(port, V6, "::")
    yield take(port, V6, "::ffff:127.0.0.1")
    yield take(port, V4, "0.0.0.0", protocol=MPTCP)
ports = [*map(int, sys.argv[1:])]
print(json.dumps([[*ways(port)] for port in ports] + [take(ports[0], V4, "", socket.SOCK_DGRAM)]))
"""


def takes(uid: int, *numbers: int, before: tuple[str, ...] = ()) -> Counter[str]:
    """The results of binding to the TCP ports NUMBERS as UID; binding to UDP must always work."""
    who = ["setpriv", f"--reuid={uid}", "--clear-groups"]
    argv = [*before, *who, sys.executable, "-I", "-c", TAKES, *map(str, numbers)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True)
    *ends, datagrams = json.loads(done.stdout)
    assert datagrams == "taken"
    return Counter(end for of_port in ends for end in of_port if "NOSUPPORT" not in end)


@pytest.fixture
def kept(root: None) -> ExitStack:
    """Reserves the ports of two workers until it is closed."""
    with ExitStack() as ends:
        for one in ports.keep((OWNER, NEIGHBOUR)):
            ends.callback(os.close, one)
        return ends.pop_all()


def test_nobody_else_is_there_first(kept: ExitStack) -> None:
    """Whatever the way of binding, a port is refused to a host user, to root and to a neighbour; its owner gets it.

    The control: after the reservation ends, the same attempts get it.
    """
    own, all_of = OWNER.browser_ports, (*OWNER.browser_ports, *NEIGHBOUR.browser_ports)
    with kept:
        assert set(takes(NOBODY, *all_of)) == set(takes(0, *all_of)) == set(takes(NEIGHBOUR.uid, *own)) == {"EPERM"}
        assert set(takes(OWNER.uid, *own)) == set(takes(NEIGHBOUR.uid, *NEIGHBOUR.browser_ports)) == {"taken"}
    assert set(takes(NOBODY, *all_of)) == {"taken"}


def test_no_other_port_is_meant(kept: ExitStack) -> None:
    """All users may still use the next ports, and the same ones in another network namespace."""
    with kept:
        assert set(takes(NOBODY, *BESIDE)) == {"taken"}
        inside = ("unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh")
        assert set(takes(NOBODY, *OWNER.browser_ports, before=inside)) == {"taken"}


def test_another_keeper_is_no_hindrance(kept: ExitStack) -> None:
    """A second keeper (the doctor, another fleet) comes and goes, and the first one's ports stay reserved."""
    with kept:
        for one in ports.keep((OWNER,)):
            os.close(one)
        assert set(takes(NOBODY, *OWNER.browser_ports)) == {"EPERM"}
