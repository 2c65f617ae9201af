"""bin/build-wheel: what an archive's code can do while the wheel is built."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "bin/build-wheel"
SETUP = """
import json, os, socket, subprocess, sys
from setuptools import setup
def writes(path):
    try:
        open(path, "a").close()
    except OSError:
        return False
    return True
child = subprocess.Popen(["sleep", "4242"], stdout=-3, stderr=-3, start_new_session=True)
said = {"uid": os.getuid(), "capabilities": open("/proc/self/status").read().split("CapBnd:")[1].split()[0],
        "interfaces": sorted(name for _, name in socket.if_nameindex()),
        "writes": [path for path in (os.environ.get("MARK", MARK), "/etc/fleet-built") if writes(path)]}
with open("hostile_said.py", "w") as file:
    file.write("SAID = " + json.dumps(json.dumps(said)))
setup(name="hostile", version="1", py_modules=["hostile_said"])
"""


def options(folder: Path) -> dict[str, str]:
    """An environment in which pip takes archives only from FOLDER, whatever this machine's settings are."""
    return {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_CONFIG_FILE": os.devnull}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder with an archive whose setup.py tries what it can, and a requirements.txt with its hash."""
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):  # pytest makes these for the current user only
        folder.chmod(0o755)
    setup = SETUP.replace("MARK)", f"{str(tmp_path / 'mark')!r})")
    files = {"setup.py": setup, "PKG-INFO": "Metadata-Version: 2.1\nName: hostile\nVersion: 1\n"}
    archive = tmp_path / "hostile-1.tar.gz"
    with tarfile.open(archive, "w:gz") as made:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"hostile-1/{name}")
            entry.size = len(text.encode())
            made.addfile(entry, io.BytesIO(text.encode()))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    (tmp_path / "requirements.txt").write_text(f"hostile==1 --hash=sha256:{digest}\n")
    (tmp_path / "made").mkdir()
    yield tmp_path
    for process in left():
        process.kill()
    Path("/etc/fleet-built").unlink(missing_ok=True)


def left() -> list[psutil.Process]:
    """Processes that the archive's code started and that still run."""
    return [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", "4242"]]


def said(wheel: Path) -> dict[str, object]:
    """What the archive's code has found out."""
    scope: dict[str, str] = {}
    exec(zipfile.ZipFile(wheel).read("hostile_said.py"), scope)
    found: dict[str, object] = json.loads(scope["SAID"])
    return found


def test_an_archive_is_built_where_its_code_can_do_nothing(root: None, place: Path) -> None:
    """It runs under a UID without account, without rights and network interfaces; none of its processes stays."""
    words = [str(SCRIPT), sys.executable, str(place / "requirements.txt"), str(place / "made")]
    done = subprocess.run(words, env=options(place), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = said(Path(done.stdout.strip()))
    assert found == {"uid": 65533, "capabilities": "0" * 16, "interfaces": ["lo"], "writes": []}
    assert left() == [] and not (place / "mark").exists()


def test_without_it_the_code_is_roots(root: None, place: Path) -> None:
    """The control: pip alone runs it as root, in the machine's network, even if it was only told to download it."""
    words = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-build-isolation", "hostile", "-d", str(place)]
    subprocess.run(words, env=options(place), capture_output=True, check=True)
    assert (place / "mark").exists() and left()
    words = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "hostile", "-w", str(place)]
    subprocess.run(words, env=options(place), capture_output=True, check=True)
    found = said(place / "hostile-1-py3-none-any.whl")
    assert found["uid"] == 0 and found["writes"] == [str(place / "mark"), "/etc/fleet-built"]


def test_another_archive_is_refused(root: None, place: Path) -> None:
    """An archive with a different hash is neither run nor built."""
    with (place / "hostile-1.tar.gz").open("ab") as file:
        file.write(b"more")
    words = [str(SCRIPT), sys.executable, str(place / "requirements.txt"), str(place / "made")]
    done = subprocess.run(words, env=options(place), capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "hash" in done.stderr.lower()
    assert left() == []
