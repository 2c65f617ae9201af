"""A Debian package of the checkout, where its dependencies are: installed, upgraded while its fleet runs, purged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fleet import VERSION
from lab.topology import SITE_NAME

MAKE = "bin/package --python 3.11"
"""In the checkout, with a way to the package registries; for this Debian's Python alone, the other takes as long."""
PACKAGE = f"fleet_{VERSION}_$(dpkg --print-architecture).deb"
NEWER = (
    f"dpkg-deb -R {PACKAGE} newer",
    "sed -i s/^Version:.*/Version:\\ 99/ newer/DEBIAN/control",
    "echo \\# >>newer/usr/lib/fleet/launch.py",
    "dpkg-deb -Znone -b newer newer.deb",
)


def follow(type_: Callable[..., str], commands: Sequence[str], spools: Path) -> None:
    """COMMANDS of README after the set-up, with the package's programs."""
    type_(f"apt-get install -y ./{PACKAGE}")
    assert f"fleet {VERSION}" in type_("/usr/bin/fleet --version")
    type_("test -s /usr/share/man/man8/netctl.8.gz -a -s /usr/share/bash-completion/completions/fleet")
    init, keys, up, _ = commands
    type_(init, f"https://{SITE_NAME}/", f"https://{SITE_NAME}/ip")
    type_(keys)
    type_(up)
    pid = type_("cat /run/fleet/supervisord.pid")
    for command in NEWER:
        type_(command)
    said = type_("apt-get install -y ./newer.deb")
    assert "next: sudo fleet down, sudo fleet up" in said, said
    assert pid == type_("cat /run/fleet/supervisord.pid"), "it goes on"
    type_("fleet supervisorctl status netctl")
    type_("apt-get purge -y fleet")
    assert not spools.exists()
