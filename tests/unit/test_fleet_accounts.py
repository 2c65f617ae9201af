"""Accounts, made by the real useradd on a private copy of /etc."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
PRELUDE = """
import grp, pwd, subprocess
from pathlib import Path
from fleet import log
from fleet.machine import syscalls
from fleet.operate import accounts, configuration
log.configure()
syscalls.bind(Path({etc!r}), Path("/etc"))
FLEET = '[workers]\\ncount = 2\\nfirst_uid = 4101\\n[dns]\\nresolvers = ["198.18.0.53"]\\n[egress]\\nurls = ["https://a/"]\\n'
fleet = configuration.parse(FLEET, "test")
"""
Script = Callable[[str], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def script(tmp_path: Path, root: None) -> Script:
    """Runs Python lines where /etc is a copy without accounts of the fleet, and no process is theirs."""
    etc = tmp_path / "etc"
    shutil.copytree("/etc", etc, symlinks=True, ignore=shutil.ignore_patterns("*.lock", "ssl", "alternatives"))
    for name in ("passwd", "shadow", "group", "gshadow", "subuid", "subgid"):
        path = etc / name
        if path.exists():
            kept = [line for line in path.read_text().splitlines(keepends=True) if not _ours(line)]
            path.write_text("".join(kept))

    def run(lines: str) -> subprocess.CompletedProcess[str]:
        code = PRELUDE.format(etc=str(etc)) + lines
        return subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def _ours(line: str) -> bool:
    name = line.partition(":")[0]
    return name in ("netctl", "fleet", "fleet-hub", "fleet-keys") or (name.startswith("w") and name[1:].isdigit())


def test_accounts_are_made_once(script: Script) -> None:
    """The group, netctl and every worker are made; a second run has nothing to do."""
    done = script(
        "print(accounts.ensure(fleet)); print(accounts.ensure(fleet))\n"
        "entry = pwd.getpwuid(4102); print(entry.pw_name, grp.getgrgid(entry.pw_gid).gr_name, entry.pw_shell)\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "['fleet', 'netctl', 'fleet-hub', 'w4101', 'w4102', 'w4612']",
        "[]",
        "w4102 fleet /usr/sbin/nologin",
    ]


def test_a_person_comes_after_every_worker_that_may_be(script: Script) -> None:
    """useradd gives a person no UID that a larger fleet needs; without the reserving account it does (control).

    If a person has the last UID already, it stays theirs.
    """
    done = script(
        "kept = [line for line in Path('/etc/passwd').read_text().splitlines(True)\n"
        "        if not 1000 <= int(line.split(':')[2]) < 60000]\n"
        "Path('/etc/passwd').write_text(''.join(kept))\n"
        "def person(name):\n"
        "    subprocess.run(['useradd', '--no-create-home', '--gid', 'nogroup', name], check=True)\n"
        "    return pwd.getpwnam(name).pw_uid\n"
        "accounts.ensure(fleet); print(person('alice'))\n"
        "for name in ('alice', 'w4612'): subprocess.run(['userdel', name], check=True)\n"
        "print(person('bob'))\n"
        "subprocess.run(['useradd', '--system', '--uid', '4612', '--gid', 'nogroup', 'carol'], check=True)\n"
        "print(accounts.ensure(fleet))\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["4613", "4103", "[]"]


def test_workers_get_no_subordinate_uids(script: Script) -> None:
    """With subordinate UIDs a worker could send under a UID that no rule of the fleet covers."""
    done = script("accounts.ensure(fleet); print(Path('/etc/subuid').read_text() + Path('/etc/subgid').read_text())\n")
    assert done.returncode == 0, done.stderr
    assert "w410" not in done.stdout


def test_taken_uids_are_all_named_and_nothing_is_made(script: Script) -> None:
    """UIDs in use are reported with holder and remedy before anything has changed."""
    done = script(
        "for name, uid in (('alice', '4101'), ('bob', '4102')):\n"
        "    subprocess.run(['useradd', '--system', '--uid', uid, '--gid', 'nogroup', name], check=True)\n"
        "try: accounts.ensure(fleet)\n"
        "except accounts.ConfigurationError as error: print(error, error.hint, sep='\\n')\n"
        "print('fleet' in [entry.gr_name for entry in grp.getgrall()])\n"
    )
    first, second, hint, made = done.stdout.splitlines()
    assert "4101" in first and "'alice'" in first
    assert "4102" in second and "'bob'" in second
    assert "workers.first_uid" in hint
    assert made == "False"


def test_taken_name_is_refused(script: Script) -> None:
    """An account with a worker's name but another UID is not taken over."""
    done = script(
        "subprocess.run(['useradd', '--system', '--uid', '4242', '--gid', 'nogroup', 'w4101'], check=True)\n"
        "accounts.ensure(fleet)\n"
    )
    assert done.returncode != 0
    assert "the account w4101" in done.stderr


def test_foreign_netctl_is_refused(script: Script) -> None:
    """A `netctl` account in another group belongs to another program."""
    done = script(
        "subprocess.run(['useradd', '--system', '--gid', 'nogroup', 'netctl'], check=True)\naccounts.ensure(fleet)\n"
    )
    assert done.returncode != 0
    assert "the account 'netctl' exists" in done.stderr


def test_remove_takes_only_ours(script: Script) -> None:
    """After remove none of the fleet's accounts is left, and every other line of /etc/passwd is as before."""
    done = script(
        "before = Path('/etc/passwd').read_text(); accounts.ensure(fleet)\n"
        "print(sorted(accounts.remove()), Path('/etc/passwd').read_text() == before, accounts.remove())\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['fleet', 'fleet-hub', 'netctl', 'w4101', 'w4102', 'w4612'] True []"


def test_accounts_at_work_are_not_removed(script: Script) -> None:
    """While any fleet on the machine uses one of them, all stay; after it has ended they are removed (control)."""
    done = script(
        "accounts.ensure(fleet); before = Path('/etc/passwd').read_text()\n"
        "working = subprocess.Popen(['setpriv', '--reuid=w4102', '--regid=fleet', '--clear-groups', 'sleep', '60'])\n"
        "while Path(f'/proc/{working.pid}').stat().st_uid == 0: pass\n"
        "try: accounts.remove()\n"
        "except accounts.TryLater as error: print(str(working.pid) in error.message, 'w4102' in error.message)\n"
        "print(Path('/etc/passwd').read_text() == before)\n"
        "working.kill(); working.wait(); print(len(accounts.remove()))\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "True", "True", "6"]


def test_netctl_needs_no_settings(script: Script) -> None:
    """The key store's owner can be made alone, so keys can be imported before a fleet exists; repeating is harmless."""
    done = script("print(accounts.ensure_netctl(), accounts.ensure_netctl(), accounts.ensure(fleet))\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['fleet', 'netctl'] [] ['fleet-hub', 'w4101', 'w4102', 'w4612']"


HOLDER = """
import fcntl, os, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    fcntl.flock(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o666), fcntl.LOCK_EX)
    print("held", flush=True)
except OSError as error:
    print("refused", flush=True)
sys.stdin.read()
"""


def test_no_local_user_holds_it_up(script: Script) -> None:
    """No user of the host can hold the lock; in a world-writable folder, such as /run/lock, one can (control)."""
    done = script(
        f"import signal, sys\nHOLDER = {HOLDER!r}\n"
        "def held(path, seconds):\n"
        "    words = [sys.executable, '-c', HOLDER, str(path)]\n"
        "    holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)\n"
        "    said = holder.stdout.readline().strip()\n"
        "    signal.alarm(seconds)\n"
        "    try: return said, bool(accounts.ensure(fleet))\n"
        "    except (TimeoutError, PermissionError) as error: return said, type(error).__name__\n"
        "    finally: signal.alarm(0); holder.communicate('')\n"
        "def late(*_): raise TimeoutError\n"
        "signal.signal(signal.SIGALRM, late)\n"
        "accounts.remove()\n"
        "print(*held(accounts.LOCK, 30))\n"
        "accounts.LOCK = Path('/mnt/lock')\n"
        "syscalls.mount('tmpfs', '/mnt', 'tmpfs', 0, 'mode=1777')\n"
        "print(*held(accounts.LOCK, 2))\n"
    )
    assert done.returncode == 0, done.stderr
    ours, everybodys = done.stdout.splitlines()
    assert ours == "refused True"
    assert everybodys in ("held TimeoutError", "held PermissionError"), "fs.protected_regular refuses root the file"
