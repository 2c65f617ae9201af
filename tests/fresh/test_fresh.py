"""`bin/demo` from nothing: a Debian 12 root that holds only the checkout.

The root (bare.py) is entered in namespaces of its own, and given this machine's way to the package
registries (network, apt sources, authorities, resolver) and nothing else.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fresh import bare

CHECKOUT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
INSIDE = Path("home/operator/fleet")
OUTSIDE = Path("/run/outside.netns")
"""The network with the registries, where bin/test has put us into one without (tests/runner/alone.sh)."""


def run(*argv: str | Path, seconds: float, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run ARGV to its end, its output kept."""
    words = [str(word) for word in argv]
    return subprocess.run(words, cwd=cwd, text=True, capture_output=True, timeout=seconds, check=False)


def give_registries(root: Path) -> None:
    """This machine's way to the registries: apt's sources, authorities and the resolver."""
    shutil.copytree("/etc/apt/sources.list.d", root / "etc/apt/sources.list.d", dirs_exist_ok=True)
    (root / "etc/apt/sources.list").unlink(missing_ok=True)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    # Under a name of its own: the package ca-certificates, a dependency of the browser, rewrites its own file.
    authorities = root / "etc/ssl/registries.crt"
    authorities.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", authorities)
    (root / "etc/pip.conf").write_text("[global]\ncert = /etc/ssl/registries.crt\ntimeout = 180\n")


def give_checkout(root: Path) -> None:
    """The files git knows or would add, as they are in the work tree."""
    names = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", seconds=60, cwd=CHECKOUT).stdout
    for name in filter(None, names.split("\0")):
        source, target = CHECKOUT / name, root / INSIDE / name
        if not source.exists() and not source.is_symlink():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)


@pytest.fixture
def fresh_root(root: None) -> Iterator[Path]:
    """A bare Debian 12 root with the checkout in an operator's home."""
    try:
        with bare.copy() as made:
            give_registries(made)
            give_checkout(made)
            yield made
    except bare.NoRoot as error:
        pytest.fail(str(error), pytrace=False)


def test_demo_from_nothing(fresh_root: Path) -> None:
    """On a Debian that holds only the checkout, the README's first command does all its own set-up and ends well.

    Two workers and one loop are enough for that; eight workers are another test's.
    """
    started = time.monotonic()
    network = ["nsenter", f"--net={OUTSIDE}"] if OUTSIDE.exists() else []
    own = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc"]
    demo = f"/{INSIDE}/bin/demo"
    size = ("--workers", "2", "--loops", "1")
    done = run(
        *network, *own, "sh", HERE / "enter.sh", fresh_root, demo, *size, "--report", "/root/report", seconds=3000
    )
    print(f"fresh: bin/demo from nothing took {time.monotonic() - started:.0f} s, its set-up included")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    report = json.loads((fresh_root / "root/report/report.json").read_text())
    assert (report["workers"], report["loops"]) == (2, 1)
    assert len(report["runs"]) == 2
    assert all(row["ok"] for row in report["runs"])
    assert report["network_changed"] == 0
    assert report["address_events"] == 0
