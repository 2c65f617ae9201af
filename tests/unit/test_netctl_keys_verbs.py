"""`netctl keys` as it is typed: what it prints, and its exit codes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import ExitCode
from fleet.model import Paths
from fleet.terminal import console
from netctl import keys
from netctl.pool import commands
from netctl.pool.contract import Wish
from netctl.pool.store import Store
from tests.unit.test_netctl_exports import LINES, OWN, SERVER

Typed = Callable[..., tuple[int, str, str]]
OTHER_SERVER = SERVER.replace("Z", "Y", 1)
COLUMNS = 60


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Types `netctl keys WORDS` in a folder with two servers of one key, and a file that is bad."""
    monkeypatch.setattr(commands, "_as_netctl", lambda _: contextlib.nullcontext())
    monkeypatch.setenv("FLEET_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    Paths(root=tmp_path).key_store.parent.mkdir(parents=True)
    (tmp_path / "kr-seo-wg-001.conf").write_text(LINES)
    (tmp_path / "jp-tyo-wg-001.conf").write_text(LINES.replace("vpn.", "jp.").replace(SERVER, OTHER_SERVER))
    (tmp_path / "bad.conf").write_text(LINES.replace("10.9.9.4", "10.9.9.400"))
    return partial(_typed, capsys)


def _typed(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    top = console.parser("netctl", "", "netctl")
    keys.add(top.add_subparsers())
    with pytest.raises(SystemExit) as ended:
        console.main(top, ["keys", *words])
    shown = capsys.readouterr()
    return int(str(ended.value.code)), shown.out, shown.err


def answered(typed: Typed, *words: str) -> Any:
    return json.loads(typed(*words, "--json")[1])


def test_the_good_files_are_taken_where_that_is_asked_for(typed: Typed) -> None:
    """Nothing without --keep-going, code 78; with it the good ones, code 1; the bad one is named by its odd part."""
    files = ("kr-seo-wg-001.conf", "bad.conf", "jp-tyo-wg-001.conf")
    code, _, said = typed("import", *files)
    assert (code, answered(typed, "list")) == (ExitCode.CONFIGURATION, [])
    assert "--keep-going" in said
    code, out, said = typed("import", "--keep-going", *files)
    assert (code, out) == (
        ExitCode.FAILED,
        "1 keys imported, 1 more servers of keys, 0 skipped, 1 files refused\n",
    )
    assert "bad.conf: [Interface] Address: '10.9.9.400/32' is no address\n" in said
    code, _, said = typed("import", "--keep-going", "bad.conf")
    assert code == ExitCode.CONFIGURATION


def test_an_import_is_tried_before_it_is_done(typed: Typed, tmp_path: Path) -> None:
    """Code 2 and the difference, and nothing is changed; once it is done there is nothing more to do: code 0."""
    typed("import", "kr-seo-wg-001.conf")
    (tmp_path / "kr-seo-wg-001.conf").write_text(LINES.replace("51820", "443"))
    before = answered(typed, "list")
    code, _, said = typed("import", "--dry-run", "kr-seo-wg-001.conf")
    assert code == ExitCode.WOULD_CHANGE
    assert "would be changed: endpoint: vpn.example:51820 -> vpn.example:443" in said
    assert "not used" not in said
    assert answered(typed, "list") == before
    assert typed("import", "kr-seo-wg-001.conf")[0] == ExitCode.DONE
    assert typed("import", "--dry-run", "kr-seo-wg-001.conf")[0] == ExitCode.DONE
    (tmp_path / "kr-seo-wg-001.conf").write_text(LINES.replace("[Peer]", "MTU = 1500\n[Peer]"))
    assert "not used: MTU 1500 (wireguard.mtu is 1420)\n" in typed("import", "kr-seo-wg-001.conf")[2]


def test_a_key_is_named_by_file_server_region_or_public_key(typed: Typed) -> None:
    """Each of them names one of two servers, or the key that both have; another word is told by its place alone."""
    typed("import", "kr-seo-wg-001.conf", "jp-tyo-wg-001.conf")
    public = answered(typed, "list")[0]["public_key"]
    for word in ("kr-seo-wg-001.conf", "kr-seo-wg-001", "./kr-seo-wg-001.conf", "vpn.example", "KR", "kr"):
        assert [one["server"] for one in answered(typed, "show", word)] == ["vpn.example"], word
    assert {one["server"] for one in answered(typed, "show", public)} == {"vpn.example", "jp.example"}
    code, _, said = typed("show", "KR", OWN)
    assert code == ExitCode.FAILED
    assert "word 2: is not in the pool" in said
    assert OWN[:8] not in said


def test_a_key_is_retired_revived_and_removed(typed: Typed) -> None:
    """`keys list` has each state; a leased one goes when its lease ends, and is told so."""
    typed("import", "kr-seo-wg-001.conf", "jp-tyo-wg-001.conf")
    states = partial(dict.fromkeys, ["jp.example", "vpn.example"])

    def seen() -> dict[str, str]:
        return {one["server"]: one["state"] for one in answered(typed, "list")}

    assert typed("retire", "JP")[0] == ExitCode.DONE
    assert seen() == {**states("free"), "jp.example": "retired"}
    store = Store(Paths.from_environment().key_store)
    store.take([Wish(uid=1101, owner="o")], 0)
    assert seen() == {"jp.example": "retired", "vpn.example": "leased"}
    code, out, said = typed("remove", "kr-seo-wg-001")
    assert (code, out) == (ExitCode.DONE, "1 keys removed\n")
    assert "is leased to w1101, goes when its lease ends" in said
    assert seen()["vpn.example"] == "leaving"
    store.ending(1101)
    store.ended([(1101, None)])
    typed("revive", "JP")
    assert seen() == {"jp.example": "cooling"} or seen() == {"jp.example": "free"}


def test_the_list_fits_a_narrow_terminal(typed: Typed) -> None:
    """At most 60 columns a line, what is wrong first, and all that an operator asks of a dead key."""
    typed("import", "kr-seo-wg-001.conf", "jp-tyo-wg-001.conf")
    store = Store(Paths.from_environment().key_store)
    wish = Wish(uid=1101, owner="o", avoid=frozenset({"jp.example"}))
    lease = store.take([wish], 0)[wish]
    assert lease
    store.note(lease, "did not answer", {lease.key.server: 300.0})
    store.ending(1101)
    store.ended([(1101, None)])
    lines = typed("list")[1].splitlines()
    assert max(map(len, lines)) <= COLUMNS
    assert lines[0].startswith("1 keys at 2 servers: ")
    assert lines[1] == "put aside: kr-seo-wg-001.conf: did not answer"
    at = lines.index("  KR vpn.example:51820, exit not known")
    assert lines[at - 1].startswith("kr-seo-wg-001.conf: aside until ")
    assert lines[at + 1] == "  never good yet, 0 leases today"
    assert lines[at + 2].endswith(": did not answer")
