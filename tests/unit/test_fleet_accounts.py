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
from fleet import log, syscalls
from fleet.operate import accounts, configuration
log.configure()
syscalls.bind(Path({etc!r}), Path("/etc"))
FLEET = '[workers]\\ncount = 2\\nfirst_uid = 4101\\n[dns]\\nresolvers = ["198.18.0.53"]\\n[egress]\\nurls = ["https://a/"]\\n'
fleet = configuration.parse(FLEET, "test")
"""
Script = Callable[[str], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def script(tmp_path: Path, root: None) -> Script:
    """Runs Python lines where /etc is a copy without accounts of ours, and no process is theirs."""
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
    return name in ("netctl", "fleet") or (name.startswith("w") and name[1:].isdigit())


def test_accounts_are_made_once(script: Script) -> None:
    """Group, netctl and every worker are made; a second time there is nothing to do."""
    done = script(
        "print(accounts.ensure(fleet)); print(accounts.ensure(fleet))\n"
        "entry = pwd.getpwuid(4102); print(entry.pw_name, grp.getgrgid(entry.pw_gid).gr_name, entry.pw_shell)\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "['fleet', 'netctl', 'w4101', 'w4102']",
        "[]",
        "w4102 fleet /usr/sbin/nologin",
    ]


def test_workers_get_no_subordinate_uids(script: Script) -> None:
    """With subordinate UIDs a worker could send under a UID that no rule of ours holds."""
    done = script("accounts.ensure(fleet); print(Path('/etc/subuid').read_text() + Path('/etc/subgid').read_text())\n")
    assert done.returncode == 0, done.stderr
    assert "w410" not in done.stdout


def test_taken_uids_are_all_named_and_nothing_is_made(script: Script) -> None:
    """UIDs of somebody else are named with holder and remedy before anything has changed."""
    done = script(
        "for name, uid in (('alice', '4101'), ('bob', '4102')):\n"
        "    subprocess.run(['useradd', '--system', '--uid', uid, '--gid', 'nogroup', name], check=True)\n"
        "try: accounts.ensure(fleet)\n"
        "except accounts.AccountTaken as error: print(error, error.hint, sep='\\n')\n"
        "print('fleet' in [entry.gr_name for entry in grp.getgrall()])\n"
    )
    first, second, hint, made = done.stdout.splitlines()
    assert "4101" in first and "'alice'" in first
    assert "4102" in second and "'bob'" in second
    assert "workers.first_uid" in hint
    assert made == "False"


def test_taken_name_is_refused(script: Script) -> None:
    """An account called like a worker but with another UID is not taken over."""
    done = script(
        "subprocess.run(['useradd', '--system', '--uid', '4242', '--gid', 'nogroup', 'w4101'], check=True)\n"
        "accounts.ensure(fleet)\n"
    )
    assert done.returncode != 0
    assert "the account w4101" in done.stderr


def test_foreign_netctl_is_refused(script: Script) -> None:
    """A `netctl` of another group is somebody else's program's user."""
    done = script(
        "subprocess.run(['useradd', '--system', '--gid', 'nogroup', 'netctl'], check=True)\naccounts.ensure(fleet)\n"
    )
    assert done.returncode != 0
    assert "the account 'netctl' exists" in done.stderr


def test_remove_takes_only_ours(script: Script) -> None:
    """After remove no account of ours is left and every other line of /etc/passwd is as before."""
    done = script(
        "before = Path('/etc/passwd').read_text(); accounts.ensure(fleet)\n"
        "print(sorted(accounts.remove()), Path('/etc/passwd').read_text() == before, accounts.remove())\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['fleet', 'netctl', 'w4101', 'w4102'] True []"


def test_netctl_needs_no_settings(script: Script) -> None:
    """The key store's owner is made by itself, so that keys are imported before there is a fleet; twice is as once."""
    done = script("print(accounts.ensure_netctl(), accounts.ensure_netctl(), accounts.ensure(fleet))\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['fleet', 'netctl'] [] ['w4101', 'w4102']"
