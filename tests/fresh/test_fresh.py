"""README's commands on a Debian 12 root that holds only the checkout, as a new user types them.

The root (bare.py) is entered in namespaces of its own. For its set-up it has this machine's way to the package
registries (network, apt sources, authorities, resolver) and nothing else; afterwards the network of world.py.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.topology import SITE_NAME
from tests.fresh import bare, packaged, world
from tests.kept import NotMade
from tests.waiting import until

HERE = Path(__file__).resolve().parent
INSIDE = Path("home/operator/fleet")
OUTSIDE = Path("/run/outside.netns")
"""The network with the registries, where bin/test has put us into one without (tests/runner/alone.sh)."""
OWN = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "sh", str(HERE / "enter.sh"))
COMMANDS = 5
"""From nothing to the look at a fleet that runs."""
UNANNOUNCED = re.compile(r"\berror\b|warning|traceback|what to do", re.IGNORECASE)
LEFT = "/etc/fleet /var/l*/fleet /run/fleet* /opt/fleet /usr/*/fleet /usr/local/bin/[fn]* /run/netns/fleet*"
NOTHING_LEFT = f'! (ls -d {LEFT} 2>/dev/null; grep -E "netctl|fleet" /etc/passwd /etc/group) | grep .'


def blocks(heading: str) -> list[list[str]]:
    """The commands of README's code blocks below HEADING, up to the next heading."""
    text = (world.CHECKOUT / "README.md").read_text()
    section = text.partition(f"\n{heading}\n")[2].partition("\n#")[0]
    return [block.strip().splitlines() for block in re.findall(r"^```\n(.*?)^```", section, re.MULTILINE | re.DOTALL)]


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
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=world.CHECKOUT, text=True, capture_output=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        source, target = world.CHECKOUT / name, root / INSIDE / name
        if not source.exists() and not source.is_symlink():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)


@pytest.fixture
def fresh_root(root: None) -> Iterator[Path]:
    """A bare Debian 12 root with the checkout in an operator's home, and a `sudo` for who is root already."""
    try:
        with bare.copy() as made:
            give_registries(made)
            give_checkout(made)
            sudo = made / "usr/local/bin/sudo"
            sudo.write_text('#!/bin/sh\nexec "$@"\n')
            sudo.chmod(0o755)
            yield made
    except NotMade as error:
        pytest.fail(str(error), pytrace=False)


class Terminal:
    """A shell inside the root, one command after another, each at a terminal of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, command: str) -> None:
        """COMMAND runs beside what is typed."""
        assert self._process.stdin
        self._process.stdin.write(f"{command} </dev/null >/dev/null 2>&1 &\n")

    def type(self, command: str, *answers: str) -> str:
        """What COMMAND says; it has to end well. ANSWERS are typed."""
        begun = time.monotonic()
        said: list[str] = []
        assert self._process.stdin and self._process.stdout
        given = "".join(f"{one}\\n" for one in answers)
        # `script` gives it a terminal; what it says there is what a person sees.
        self._process.stdin.write(f"printf '{given}' | script -qec '{command}' /dev/null 2>&1; echo \"@@ $?\"\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("@@ "):
                print(f"fresh: {time.monotonic() - begun:5.1f} s  {command}")
                assert line == "@@ 0\n", f"{command}\n{''.join(said)}"
                return "".join(said)
            said.append(line)
        pytest.fail(f"the root ended at {command}\n{''.join(said)}")


@contextmanager
def entered(root: Path, network: str | Path | None) -> Iterator[Terminal]:
    """A terminal in ROOT, with NETWORK's network; everything in it ends with it."""
    into = [] if network is None else ["nsenter", f"--net={network}"]
    argv = [*into, *OWN, str(root), "sh", "-c", f"cd /{INSIDE} && exec sh"]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, text=True, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT) as process:
        try:
            yield Terminal(process)
        finally:
            process.kill()


def test_the_readme_from_nothing(fresh_root: Path, tmp_path: Path) -> None:
    """README's commands, in their order, end well and say nothing that looks like an error.

    At their end a loop is good through a tunnel of its own, and `fleet uninstall` leaves nothing. The set-up removes an
    old release, and none from which something runs. Then the same by a Debian package (packaged.py).
    """
    begun = time.monotonic()
    first = blocks("## Install it for your own keys")[0]
    assert len(first) == COMMANDS
    releases = fresh_root / "opt/fleet/release"
    for name in ("old", "used"):
        (releases / name).mkdir(parents=True)
        os.utime(releases / name, (0, 0))
    with entered(fresh_root, OUTSIDE if OUTSIDE.exists() else None) as terminal:
        terminal.start("sh -c 'sleep 900 & wait' /opt/fleet/release/used/launch.py")
        said = terminal.type(first[0])
        assert [(releases / name).exists() for name in ("old", "used")] == [False, True], said
        assert "next: sudo fleet init" in said
        assert not UNANNOUNCED.search(said), said
        terminal.type(packaged.MAKE)
    with world.standing(tmp_path) as files:
        vpn = fresh_root / "root/vpn"
        vpn.mkdir()
        for number, text in enumerate(files):
            (vpn / f"home-{number}.conf").write_text(text)
        shutil.copy(tmp_path / "site.crt", fresh_root / "etc/ssl/site.crt")
        (fresh_root / "etc/resolv.conf").write_text(f"nameserver {world.ROUTER}\n")
        with entered(fresh_root, Path("/run/netns") / world.HOST) as terminal:
            follow(terminal, fresh_root, first[1:])
            print(f"fresh: a first result {time.monotonic() - begun:.0f} s after nothing, {COMMANDS} commands")
            for command in blocks("### Uninstall")[0]:
                terminal.type(command)
            terminal.type(NOTHING_LEFT)
            packaged.follow(terminal.type, first[1:], spools=fresh_root / "var/lib/fleet/workers")
            terminal.type(NOTHING_LEFT)


def follow(terminal: Terminal, root: Path, commands: list[str]) -> None:
    """COMMANDS after the set-up, to the look at a good loop."""
    init, *others, look = commands
    said = terminal.type(init, f"https://{SITE_NAME}/", f"https://{SITE_NAME}/ip")
    assert world.RESOLVER in said and "next: sudo netctl keys import" in said
    with (root / "etc/fleet/fleet.toml").open("a") as settings:  # this site's authority is no public one
        settings.write('[browser]\ncertificate_authorities = ["/etc/ssl/site.crt"]\n')
    for command in others:
        said = terminal.type(command)
        assert not UNANNOUNCED.search(said), said
    spools = root / "var/lib/fleet/workers"
    until("a result", lambda: list(spools.glob("*/spool/*.json")), 90, lambda: terminal.type(look))
    said = terminal.type(look)
    assert "good" in said and "203.0.113.1" in said, said
