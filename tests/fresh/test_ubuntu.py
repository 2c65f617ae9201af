"""The Debian package on Ubuntu 22.04, for `--ubuntu MIRROR` alone: apt on this machine knows no archive of Ubuntu's.

Google Chrome is no part of Ubuntu: a package without content stands for it, and no browser is started.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fleet import VERSION
from fleet.errors import ExitCode
from lab.vpn import Key
from tests import kept
from tests.fresh.test_fresh import INSIDE, NOTHING_LEFT, OUTSIDE, entered
from tests.fresh.world import CHECKOUT, CONF

CHROME = """Package: google-chrome-stable
Version: 1
Architecture: all
Maintainer: tests <root@localhost>
Description: stands for the browser
"""
INSTALL = "apt-get install --yes --no-install-recommends ./chrome.deb ./fleet_*.deb"
INIT = "fleet init --from kr.conf --url https://shop.example/ --exit-echo https://shop.example/ip --workers 1"
NETWORK = OUTSIDE if OUTSIDE.exists() else Path("/proc/self/ns/net")


def outside(*argv: str | Path) -> None:
    """Run ARGV where the registries can be reached."""
    words = ["nsenter", f"--net={NETWORK}", *map(str, argv)]
    done = subprocess.run(words, text=True, capture_output=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def jammy(mirror: str) -> Path:
    """A root with what the package depends on, kept."""
    needed = re.search(r'^packages="(.+)"', (CHECKOUT / "bin/setup").read_text(), re.MULTILINE)
    assert needed
    names = ",".join(["python3", "wireguard-go", "ca-certificates", *needed[1].split()])
    make = ("debootstrap", "--variant=minbase", "--components=main,universe", f"--include={names}", "jammy")
    words = "\0".join((*make, mirror)).encode()
    return kept.kept("jammy", words, lambda new: outside("unshare", "--mount", *make, new, mirror))


def test_the_package_on_ubuntu(root: None, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """It installs with Python 3.10, has its unit, manual pages and completion, answers; its purge leaves nothing."""
    made = Path("/var/tmp") / f"fleet-{tmp_path.name}"
    try:
        outside("cp", "--archive", "--reflink=auto", jammy(pytestconfig.option.ubuntu), made)
        (made / INSIDE / "chrome/DEBIAN").mkdir(parents=True)
        (made / INSIDE / "chrome/DEBIAN/control").write_text(CHROME)
        key = Key.fresh()
        text = CONF.format(private=Key.text(key.private), address="10.9.9.4", server=Key.text(key.public))
        (made / INSIDE / "kr.conf").write_text(text)
        outside(CHECKOUT / "bin/package", "--python", "3.10", "--to", made / INSIDE)
        with entered(made, None) as terminal:
            terminal.type("dpkg-deb --build chrome chrome.deb")
            said = terminal.type(INSTALL)
            assert "next: sudo fleet init" in said, said
            assert f"fleet {VERSION}" in terminal.type("/usr/bin/fleet --version")
            assert "Python 3.10" in terminal.type("/usr/lib/fleet/env/*/bin/python --version")
            terminal.type("test -s /usr/share/man/man8/netctl.8.gz -a -s /lib/systemd/system/fleet.service")
            terminal.type("grep ^ExecStart=/usr/bin/fleet /lib/systemd/system/fleet.service")
            terminal.type('bash -c "source /usr/share/bash-completion/completions/fleet; complete -p fleet"')
            terminal.type(INIT)
            terminal.type("netctl keys import kr.conf")
            found = json.loads(terminal.type("fleet doctor --json 2>/dev/null >doctor.json; cat doctor.json"))
            verdicts = {one["name"]: one["verdict"] for one in found}
            assert verdicts["settings"] == verdicts["nftables"] == "ok" and verdicts["wireguard"] != "error", found
            said = terminal.type(f"fleet up; test $? = {int(ExitCode.MISSING_PROGRAM)}")
            assert "install Google Chrome" in said, said
            terminal.type("apt-get purge --yes fleet")
            terminal.type(NOTHING_LEFT)
    finally:
        shutil.rmtree(made, ignore_errors=True)
