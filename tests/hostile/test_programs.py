"""The real programs beside a worker whose spool and log are made to hurt: each does for all others what it does.

The run is one in isolation `uid`; what comes after it is a fleet in `netns`. `fleet verify`: system/test_verify.py.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from lab.net import Lab
from tests.fleets import ONE_LOOP, Host
from tests.hostile.mutants import ESCAPES, GOOD, KINDS
from tests.hostile.readers import obeyed
from tests.hostile.test_border import read_all
from tests.waiting import until

FIRST_UID = 1281


class Suffering(Host):
    """A host with two workers, of which the first has been taken over."""

    usual = ONE_LOOP

    def spool(self, index: int = 0) -> Path:
        return self.paths.spool(self.worker(index))

    def plant(self, name: str, content: str, hours: int = 0) -> None:
        """A file of the victim's in its spool, written so many HOURS from now."""
        path = self.spool() / name
        path.write_text(content, encoding="utf-8")
        os.chown(path, self.worker().uid, -1)
        moment = path.stat().st_mtime + hours * 3600
        os.utime(path, (moment, moment))

    def swap_spool(self) -> None:
        """The victim's spool is a link to its neighbour's."""
        self.spool().symlink_to(self.spool(1))
        os.chown(self.spool(), self.worker().uid, -1, follow_symlinks=False)

    def zoo(self) -> None:
        """Everything that may lie under the name of a result; some of it belongs to root, by a hard link too."""
        for number, kind in enumerate(KINDS, 1):
            KINDS[kind](self.spool() / f"zoo-{number:06d}.json")
        os.link(next(self.spool(1).glob("*.json")), self.spool() / "zoo-000090.json")
        self.plant("zoo-000091.json", json.dumps({**GOOD, "worker": self.worker().name, "run": ESCAPES, "loop": 91}), 2)
        newest = {**GOOD, "worker": self.worker().name, "run": "zoo", "loop": 99, "screenshot": None}
        self.plant("zoo-000099.json", json.dumps({**newest, "exit_server": f"[/bad]{ESCAPES}", "lease": ESCAPES}), 1)

    def seen(self, argv: Sequence[str], codes: set[int], until: bytes = b"") -> str:
        """What a person sees of ARGV on a terminal: text alone; it ends with one of CODES, or once UNTIL is seen."""
        ours, theirs = pty.openpty()
        wide = ["env", "TERM=xterm", "COLUMNS=240", *argv]
        child = self.lab.popen("host", wide, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        os.close(theirs)
        shown = read_all(ours, until)
        if until:
            assert until.decode() in shown
            child.terminate()
        assert child.wait(60) in codes, shown
        assert not obeyed(shown), [line for line in shown.splitlines() if obeyed(line)]
        return shown

    def fleet_seen(self, *words: str, codes: Sequence[int] = (0,)) -> str:
        return self.seen(self.installation.module("fleet", *words), set(codes))


@pytest.fixture(scope="module")
def host(bare: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suffering]:
    """Keys, one of which has a hostile name; the victim's spool is a link to its neighbour's."""
    made = Suffering(bare, 2, first_uid=FIRST_UID)
    made.prepare()
    made.lay_out()
    folder = tmp_path_factory.mktemp("keys")
    first, *others = sorted(bare.places.keys.glob("*.conf"))
    for number, path in enumerate((first, *others)):
        (folder / (f"{ESCAPES.replace('/', '')}\n.conf" if not number else path.name)).write_text(path.read_text())
    listed = json.loads(made.command("keys", "list", "--json", check=True).stdout)
    made.command("keys", "remove", *(one["public_key"] for one in listed), check=True)
    made.command("keys", "import", *map(str, folder.iterdir()), check=True)
    made.swap_spool()
    yield made
    made.operate("down")


def test_a_run_of_both_ends_well(host: Suffering) -> None:
    """A swapped spool and files that hold no result cost no loop; they are counted, and named once."""
    running = host.lab.popen(
        "host",
        host.installation.module("fleet", "run", "--loops", "1", "--json"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    until("the worker has made its own spool", lambda: host.spool().is_dir() and not host.spool().is_symlink(), 120)
    order = json.loads(host.paths.run_order.read_text())["run"]
    host.plant(f"{order}-999999.json", "{")
    host.plant(f"{order}-888888.json", json.dumps({**GOOD, "run": ESCAPES}))
    out, errors = running.communicate(timeout=240)
    report = json.loads(out)
    assert (running.returncode, report["good"], report["missing"]) == (0, 2, 0), errors
    assert report["unreadable"] in (2, 3), "the two, and the link where it was seen before its worker"
    assert errors.count(f"{order}-999999.json") == 1
    assert (host.spool().parent / "spool.bad").is_symlink()


def test_every_program_that_looks_goes_on(host: Suffering) -> None:
    """`fleet up` and `fleet status` show both workers, on a terminal and as JSON."""
    host.configure({"": {"isolation": "netns"}})
    host.spool().rename(host.spool().with_name("elsewhere"))
    host.swap_spool()
    assert "isolation netns" in host.fleet_seen("up")
    until("the worker has made its own spool", lambda: host.spool().is_dir() and not host.spool().is_symlink(), 60)
    host.zoo()
    shown = host.fleet_seen("status")
    assert host.worker(1).name in shown and "FAILING, zoo-000099 ended" in shown and "no result" in shown
    answer = host.operate("status", "--json", check=True).stdout
    status = json.loads(answer)
    assert not obeyed(answer)
    assert [one["worker"] for one in status["workers"] if one["last"]] == [one.name for one in host.fleet.members]


def test_logs_findings_and_keys_are_text(host: Suffering) -> None:
    """A worker's log, read and followed, `fleet doctor`, netctl's status and a key with a hostile name."""
    # A worker that runs writes on, and `tail -f` begins with the last 1,600 bytes.
    host.operate("supervisorctl", "stop", f"worker:{host.worker().name}", check=True)
    with host.paths.log(host.worker().name).open("a") as file:
        file.write(f"\u0124{ESCAPES}\n")
    half = len(f"{ESCAPES}\n".encode()) + 1  # from the middle of a letter on
    assert r"\x1b]52;c" in host.fleet_seen("supervisorctl", "tail", f"-{half}", f"worker:{host.worker().name}")
    follow = host.installation.module("fleet", "supervisorctl", "tail", "-f", f"worker:{host.worker().name}")
    host.seen(["timeout", "60", *follow], {-15, 124, 143}, until=rb"\x1b]52;c")
    host.fleet_seen("doctor", codes=(0, 1))
    for words in (("status",), ("keys", "list")):
        shown = host.seen(host.installation.module("netctl", *words), {0})
    assert r"\x1b]52;c" in shown


def test_down_ends(host: Suffering) -> None:
    """With all of it in place `fleet down` ends everything."""
    assert "down" in host.fleet_seen("down")
