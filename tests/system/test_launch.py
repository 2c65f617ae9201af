"""The launcher: a worker's environment, and the launches that are refused."""

from __future__ import annotations

import json
import os
import pwd
import signal
import statistics
import subprocess
from pathlib import Path

import pytest

from lab.net import Lab
from tests.system.launching import ISP_RESOLVER, UID, Stage
from worker import seccomp

REPORT = """
import errno, grp, json, os, resource, socket
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
try:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
    netlink = 0
except OSError as error:
    netlink = error.errno
umask = os.umask(0)
print(json.dumps({
    "uids": os.getresuid(), "gids": os.getresgid(), "groups": os.getgroups(), "umask": umask,
    "netlink": netlink, "no_new_privs": status["NoNewPrivs"], "capabilities": status["CapEff"],
    "core": resource.getrlimit(resource.RLIMIT_CORE), "files": resource.getrlimit(resource.RLIMIT_NOFILE),
    "tmp": os.listdir("/tmp"), "shm": os.listdir("/dev/shm"), "tmp_mode": oct(os.stat("/tmp").st_mode),
    "resolv": open("/etc/resolv.conf").read(), "nsswitch": open("/etc/nsswitch.conf").read(),
    "policies": os.listdir("/etc/chromium/policies/managed") + os.listdir("/etc/opt/chrome/policies/managed"),
    "environment": {key: os.environ.get(key) for key in ("HOME", "USER", "LOGNAME", "TMPDIR", "LANG", "PATH")},
    "directory": os.getcwd(), "account": __import__("pwd").getpwuid(os.getuid()).pw_name,
}))
"""


WAYS_OUT = """
import ctypes, errno, json, socket, struct
libc = ctypes.CDLL(None, use_errno=True)
def call(function, *numbers):
    return errno.errorcode[ctypes.get_errno()] if function(*numbers) == -1 else "ok"
def join(family, level, option, group, high=0):
    with socket.socket(family, socket.SOCK_DGRAM) as made:
        numbers = (made.fileno(), ctypes.c_long(level | high), ctypes.c_long(option | high), group, len(group), 0)
        return call(libc.syscall, SETSOCKOPT, *numbers)
SETSOCKOPT, IO_URING = (54, 425) if __import__("platform").machine() == "x86_64" else (208, 425)
lo = socket.if_nametoindex("lo")
v4, v6 = socket.inet_aton("239.1.2.3"), socket.inet_pton(socket.AF_INET6, "ff02::4242")
print(json.dumps({
    "inet": call(libc.socket, 2, 1, 0), "inet6": call(libc.socket, 10, 2, 17), "unix": call(libc.socket, 1, 1, 0),
    "netlink": call(libc.socket, 16, 3, 0), "wide netlink": call(libc.socket, ctypes.c_long((1 << 32) + 16), 3, 0),
    "vsock": call(libc.socket, 40, 1, 0), "packet": call(libc.socket, 17, 3, 0), "mptcp": call(libc.socket, 2, 1, 262),
    "join": join(2, 0, 35, v4 + bytes(4) + struct.pack("=I", lo)),
    "wide join": join(2, 0, 35, v4 + bytes(4) + struct.pack("=I", lo), 1 << 32),
    "join v6": join(10, 41, 20, v6 + struct.pack("=I", lo)),
    "ring": call(libc.syscall, IO_URING, 1, ctypes.create_string_buffer(120)),
    "services": [name for name in ("dbus", "nscd", "systemd/resolve", "avahi-daemon")
                 if __import__("os").path.isdir("/run/" + name) and __import__("os").listdir("/run/" + name)],
}))
"""


@pytest.fixture(scope="module")
def stage(lab: Lab) -> Stage:
    """The worker's account and folders in the lab's host."""
    return Stage(lab)


def test_what_the_worker_finds(stage: Stage) -> None:
    """Its UID and group irrevocably, no capability, no netlink, own /tmp, /dev/shm, resolvers and policies."""
    done = stage.run(stage.python(REPORT))
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    group = pwd.getpwuid(UID).pw_gid
    assert (seen["uids"], seen["gids"], seen["groups"]) == ([UID] * 3, [group] * 3, [])
    assert (int(seen["capabilities"], 16), seen["no_new_privs"], seen["netlink"]) == (0, "1", 97)
    assert (seen["umask"], seen["core"], seen["files"]) == (0o077, [0, 0], [8192, 8192])
    assert (seen["tmp"], seen["shm"], seen["tmp_mode"]) == ([], [], "0o40700")
    assert seen["resolv"].splitlines()[0] == f"nameserver {ISP_RESOLVER}"
    assert "hosts: files dns\n" in seen["nsswitch"]
    assert seen["policies"] == ["fleet.json"] * 2
    home = str(stage.paths.home(stage.worker))
    assert seen["environment"]["HOME"] == seen["directory"] == home
    assert seen["environment"]["USER"] == seen["environment"]["LOGNAME"] == seen["account"] == stage.worker.name


def test_netlink_is_a_setting(stage: Stage) -> None:
    """With deny_netlink off the socket opens: the positive control of the test above."""
    done = stage.run(stage.python(REPORT), denied_calls=seccomp.compiled(netlink=True))
    assert json.loads(done.stdout)["netlink"] == 0


def test_netlink_stays_denied_in_children(stage: Stage) -> None:
    """A child process cannot open a netlink socket either: `ip` fails."""
    done = stage.run(["/bin/ip", "address"])
    assert done.returncode != 0 and "netlink" in done.stderr


def test_ways_past_the_filter_of_packets(stage: Stage) -> None:
    """A worker cannot open sockets whose packets carry no UID, or are not IP; without the launcher it can open some."""
    answered = Path("/run/avahi-daemon")  # stands for all of them; few machines have it
    made = not answered.exists()
    answered.mkdir(exist_ok=True)
    (answered / "fleet-test").touch()
    try:
        done = stage.run(stage.python(WAYS_OUT))
        plain = [
            "setpriv",
            f"--reuid={UID}",
            "--regid=fleet",
            "--clear-groups",
            "/usr/bin/python3",
            "-I",
            "-c",
            WAYS_OUT,
        ]
        control = json.loads(stage.lab.run("host", plain, check=True).stdout)
    finally:
        (answered / "fleet-test").unlink()
        if made:
            answered.rmdir()
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert (seen["inet"], seen["inet6"], seen["unix"]) == ("ok", "ok", "ok")
    assert {seen[name] for name in ("netlink", "wide netlink", "vsock", "packet")} == {"EAFNOSUPPORT"}
    assert (seen["mptcp"], seen["ring"]) == ("EPROTONOSUPPORT", "EPERM")
    assert {seen[name] for name in ("join", "wide join", "join v6")} == {"EPERM"}
    assert seen["services"] == []
    assert {control[name] for name in ("netlink", "wide netlink", "join", "wide join", "join v6")} == {"ok"}
    assert "avahi-daemon" in control["services"]


def test_host_keeps_its_files(stage: Stage) -> None:
    """Nothing the launcher mounts is seen outside, and nothing is written to the host's /etc."""
    mounts = Path("/proc/mounts").read_text()
    done = stage.run(["/bin/cat", "/proc/mounts"])
    assert "overlay /etc overlay" in done.stdout
    assert Path("/proc/mounts").read_text() == mounts
    assert not Path("/etc/fleet-authorities.pem").exists()


def test_files_survive_a_replaced_host_file(stage: Stage) -> None:
    """When the host renames a new file over one in /etc, the worker still sees its own: a bind mount would be lost."""
    path = Path(f"/etc/fleet-test-{UID}.conf")
    path.write_text("host\n")
    try:
        script = f"print('ready', flush=True)\ninput()\nprint(open({str(path)!r}).readline(), end='')"
        worker = stage.popen(stage.python(script), etc={path.name: "worker\n"})
        assert worker.stdout is not None and worker.stdin is not None
        assert worker.stdout.readline() == "ready\n"
        fresh = path.with_suffix(".new")
        fresh.write_text("host, changed\n")
        fresh.replace(path)
        worker.stdin.write("\n")
        worker.stdin.flush()
        assert worker.stdout.readline() == "worker\n"
        worker.wait(10)
    finally:
        path.unlink()


def test_etc_without_an_overlay(stage: Stage) -> None:
    """If overlays are stacked as deep as the kernel allows, the files are bind-mounted, with the same result."""
    script = (
        'cd "$(mktemp -d)"; mount -t tmpfs tmpfs .; mkdir u1 w1 u2 w2; '
        "mount -t overlay overlay -o lowerdir=/etc,upperdir=u1,workdir=w1 /etc; "
        "mount -t overlay overlay -o lowerdir=/etc,upperdir=u2,workdir=w2 /etc; "
        'cd /; exec "$@"'
    )
    show = "import os; print(open('/proc/mounts').read().count('overlay /etc overlay'))"
    report = stage.python(f"{show}\n{REPORT}")
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", script, "sh", *stage.launcher, str(stage.spec(report))],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    overlays, seen = done.stdout.splitlines()
    assert overlays == "2", "the launcher's own overlay was possible: the test tests nothing"
    found = json.loads(seen)
    assert found["resolv"].splitlines()[0] == f"nameserver {ISP_RESOLVER}"
    assert found["policies"] == ["fleet.json"] * 2 and "hosts: files dns\n" in found["nsswitch"]


def test_worker_joins_its_control_group(stage: Stage, tmp_path: Path) -> None:
    """The launcher joins the group of the spec, with its limits; without one it continues and reports that.

    A folder stands in for a group, because none can be divided here (tests/contract/test_cgroups.py uses real ones).
    """
    group = tmp_path / "w1191"
    (tmp_path / "cgroup.subtree_control").write_text("memory pids")
    assert stage.run(["/bin/true"], cgroup=str(group), memory_mebibytes=300, processes=500).returncode == 0
    found = {path.name: path.read_text() for path in group.iterdir()}
    assert found == {"memory.max": str(300 << 20), "pids.max": "500", "cgroup.procs": "0"}
    done = stage.run(["/bin/true"], cgroup=str(tmp_path / "gone/w1191"))
    assert done.returncode == 0 and "sockets is not limited" in done.stderr and "gone/w1191" in done.stderr


def test_what_is_left_of_run(stage: Stage) -> None:
    """Only the fleet's own folder is left, with the same sockets in it, also by way of a link; no nscd cache.

    Here the host has its own /run and /var/cache with files of nscd; FLEET_ROOT is `/`.
    """
    script = (
        "for place in /run /var/cache; do mount -t tmpfs tmpfs $place; done; "
        "mkdir -p /run/fleet/netctl /run/nscd /var/cache/nscd; "
        'touch /run/nscd/socket /run/fleet/netctl/netctl.sock /var/cache/nscd/hosts; exec "$@"'
    )
    look = "import json; print(json.dumps([os.listdir(place) for place in sys.argv[1:]]))"
    places = ["/run", "/var/run/fleet", "/run/fleet/netctl", "/var/cache/nscd"]
    control = [*stage.python(look), *places]
    spec = stage.spec(control, keep=["/var/run/fleet", str(stage.paths.run)])
    seen = []
    for command in ([*stage.launcher, str(spec)], ["env", f"RELEASE={Path(stage.launcher[2]).parent}", *control]):
        argv = ["unshare", "--mount", "sh", "-ec", script, "sh", *command]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        seen.append([sorted(names) for names in json.loads(done.stdout)])
    assert seen[0] == [["fleet"], ["netctl"], ["netctl.sock"], []]
    assert {"fleet", "nscd"} <= set(seen[1][0]), "mount(8) has a folder there as well"
    assert seen[1][1:] == [["netctl"], ["netctl.sock"], ["hosts"]]


def test_left_over_processes_are_killed(stage: Stage) -> None:
    """Left-over processes of the UID that ignore SIGTERM are gone when the next worker runs."""
    deaf = (
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nos.fork(); os.setsid() if os.fork() == 0 else 0"
    )
    first = stage.popen(stage.python(f"{deaf}\nprint('ready', flush=True)\nsignal.pause()"))
    assert first.stdout is not None
    for _ in range(4):
        first.stdout.readline()
    assert len(stage.processes()) == 5, "four, and process 1 of their namespace"
    second = stage.popen(stage.python("print('ready', flush=True)\ninput()"))
    assert second.stdout is not None and second.stdout.readline() == "ready\n"
    left = stage.processes()
    assert len(left) == 2 and all(second.pid in [one.pid for one in process.parents()] for process in left)
    second.communicate("\n")
    assert first.wait(10) == -signal.SIGKILL


def test_one_worker_for_one_uid(stage: Stage) -> None:
    """While another process holds the UID's lock, a launch waits and then reports the holder."""
    lock = stage.paths.worker_lock(stage.worker)
    holder = subprocess.Popen(["flock", "-F", str(lock), "cat"], stdin=subprocess.PIPE)  # root's: no sweep ends it
    while subprocess.run(["flock", "--nonblock", str(lock), "true"], check=False).returncode == 0:
        pass
    done = stage.run(["/bin/true"])
    holder.kill()
    holder.wait()
    assert done.returncode == 75 and str(lock) in done.stderr
    assert stage.run(["/bin/true"]).returncode == 0


def test_uid_of_somebody_else(stage: Stage) -> None:
    """A UID whose account is not the worker's is refused with exit code 78, and its processes are left alone."""
    bystander = subprocess.Popen(["cat"], stdin=subprocess.PIPE, user=UID, cwd="/")
    done = stage.run(["/bin/true"], account="w1198")
    assert done.returncode == 78
    assert f"UID {UID} belongs to" in done.stderr and "first_uid" in done.stderr
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_uid_without_account(stage: Stage) -> None:
    """A UID that has no account is refused with 78 and the command that makes it."""
    done = stage.run(["/bin/true"], uid=9876, account="w9876")
    assert done.returncode == 78 and "fleet up" in done.stderr


def test_spec_of_somebody_else(stage: Stage) -> None:
    """A spec that another user could have written is refused, because root executes what it says."""
    spec = stage.spec(["/bin/true"])
    os.chown(spec, UID, -1)
    done = stage.lab.run("host", [*stage.launcher, str(spec)])
    spec.unlink()
    assert done.returncode == 77 and "must belong to root" in done.stderr


def test_death_of_the_supervisor(stage: Stage) -> None:
    """When its parent is killed, the worker gets SIGTERM, so a dead supervisor leaves no unknown worker."""
    spec = stage.spec(stage.python("import signal\nprint('ready', flush=True)\nsignal.pause()"))
    parent = (
        "import subprocess, sys; child = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, text=True)\n"
        "print(child.stdout.readline(), end='', flush=True); child.wait()"
    )
    supervisor = stage.lab.popen(
        "host", [stage.launcher[0], "-Ic", parent, *stage.launcher, str(spec)], stdout=subprocess.PIPE
    )
    assert supervisor.stdout is not None
    assert supervisor.stdout.readline() == "ready\n"
    supervisor.kill()
    supervisor.wait()
    assert not stage.wait_for_none(2)


def test_launch_is_quick(stage: Stage) -> None:
    """From root to the worker's program takes at most nine times the CPU time of starting the interpreter itself."""
    spec = stage.spec(["/bin/true"])
    bare = [stage.launcher[0], "-Ic", "pass"]
    ratio = statistics.median(cpu_seconds([*stage.launcher, str(spec)]) / cpu_seconds(bare) for _ in range(9))
    print(f"launch: {ratio:.1f} starts of the interpreter")
    assert ratio <= 9


def cpu_seconds(argv: list[str]) -> float:
    """User and system time of one run of ARGV."""
    child = subprocess.Popen(argv)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return used.ru_utime + used.ru_stime
