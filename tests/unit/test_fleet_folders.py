"""Folders made by root in places that workers own."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import pytest

from fleet.errors import ConfigurationError
from fleet.model import Paths
from fleet.operate import folders
from fleet.operate.folders import Folder

UID = 4242


def test_folder_gets_owner_and_mode(tmp_path: Path, root: None) -> None:
    """A missing folder is made, a wrong owner or mode is corrected, a second run changes nothing."""
    folder = Folder(path=tmp_path / "a/b", uid=UID, gid=UID, mode=0o700)
    for _ in range(2):
        folders.make(folder)
        found = folder.path.stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (UID, UID, 0o700)
        folder.path.chmod(0o777)
    assert (tmp_path / "a").stat().st_uid == 0


def test_link_in_a_folders_place_is_refused(tmp_path: Path) -> None:
    """If a worker replaces its spool by a link, the result is an error; the link's target is not changed."""
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o700)
    (tmp_path / "spool").symlink_to(victim)
    with pytest.raises(ConfigurationError, match="something else"):
        folders.make(Folder(path=tmp_path / "spool", uid=UID, mode=0o777))
    found = victim.stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (os.geteuid(), 0o700)


def test_file_in_a_folders_place_is_refused(tmp_path: Path) -> None:
    """A file in the place of a folder is an error that says what to do."""
    (tmp_path / "spool").write_text("")
    with pytest.raises(ConfigurationError) as caught:
        folders.make(Folder(path=tmp_path / "spool"))
    assert str(tmp_path / "spool") in caught.value.hint


def test_netctls_lock_is_netctls_whoever_made_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: None) -> None:
    """`netctl cleanup` as root before the first `fleet up` leaves a lock that only netctl can open."""
    entry = pwd.struct_passwd(("netctl", "x", UID, UID, "", "/", "/bin/false"))
    monkeypatch.setattr(pwd, "getpwnam", lambda _: entry)
    paths = Paths(root=tmp_path)
    lock = paths.netctl_lock
    lock.parent.mkdir(parents=True)
    lock.touch(0o640)
    folders.netctl_lock(paths)
    found = lock.stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (UID, 0o600)
