"""Key material in no message, wherever it was pasted; and what is no file ends `netctl keys import` at once."""

from __future__ import annotations

import base64
import hashlib
import os
import pty
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.client_files import intake
from fleet.errors import ConfigurationError, ExitCode
from fleet.model import Paths
from netctl.plan.key import KEY_BYTES, Secret, could_be_key, sayable
from netctl.plan.things import Device, Peer
from netctl.pool import commands, conf
from tests.unit.test_netctl_keys import GOOD, PRIVATE, PUBLIC, key

CHECKOUT = Path(__file__).resolve().parents[2]
LONGEST_PART = 8
"""So many characters of a key in a row are no chance."""


def written(value: bytes) -> dict[str, str]:
    """VALUE as people have it in their clipboards."""
    plain = base64.b64encode(value).decode()
    return {
        "base64": plain,
        "without padding": plain.rstrip("="),
        "base64url": base64.urlsafe_b64encode(value).decode(),
        "hex": value.hex(),
        "HEX": value.hex().upper(),
        "hex with colons": value.hex(":"),
        "with blanks": " ".join(plain[at : at + 11] for at in range(0, 44, 11)),
    }


keys = st.integers().map(lambda seed: hashlib.sha256(str(seed).encode()).digest())
"""As random as real ones."""
PLACES = {
    "Address": ("198.18.1.11/32", "{}"),
    "second Address": ("198.18.1.11/32", "198.18.1.11/32, {}"),
    "AllowedIPs": ("0.0.0.0/0", "{}"),
    "Endpoint": ("vpn1.example:51820", "{}"),
    "host of Endpoint": ("vpn1.example:51820", "{}:51820"),
    "port of Endpoint": ("vpn1.example:51820", "vpn1.example:{}"),
    "ExitAddress": ("203.0.113.11", "{}"),
    "PrivateKey": (PRIVATE, "{}x"),
    "PublicKey": (PUBLIC, "{}x"),
    "a section": ("[Peer]", "[{}]"),
    "a name": ("DNS =", "{} ="),
    "a line": ("DNS =", "{}\nDNS ="),
    "the first line": ("# ExitAddress", "{}\n# ExitAddress"),
    "a title": ("[Peer]", "[{}]"),
    "a title with more behind it": ("# ExitAddress", "[{}] MTU = 1280\n# ExitAddress"),
}


def told(text: str, spelled: str) -> list[str]:
    """Parts of SPELLED that stand in TEXT."""
    parts = (spelled[at : at + LONGEST_PART] for at in range(len(spelled) - LONGEST_PART + 1))
    return [part for part in parts if part in text]


@settings(max_examples=20)
@given(keys)
def test_no_place_of_a_file_tells_a_key(value: bytes) -> None:
    """Whatever line a key was pasted into and however it was written: no part of it is in a message."""
    for spelled in written(value).values():
        for old, new in PLACES.values():
            assert old in GOOD
            found, mistakes, unused, _ = conf.parse(GOOD.replace(old, new.format(spelled)))
            assert not told("\n".join([*mistakes, unused]), spelled), (mistakes, unused)
            if found:
                assert not told(f"{found.server} {found!r}", spelled)


def test_the_search_finds_what_is_told() -> None:
    """Positive control: a message that quotes what it is about."""
    for spelled in written(bytes(range(KEY_BYTES))).values():
        assert told(f"{spelled!r} is no address", spelled)


@settings(max_examples=20)
@given(keys)
def test_a_key_is_no_name(value: bytes) -> None:
    """In place of a file, or as the name of one: not repeated."""
    for spelled in written(value).values():
        assert not told(sayable(spelled), spelled)
        name = spelled.replace("/", "_")
        assert could_be_key(name)
        for path in (f"{name}.conf", f"/home/me/vpn/{name}.conf", f"wg-{name}-old.conf"):
            assert not told(sayable(path), name)


ORDINARY = (
    "/home/user/Downloads/WireGuard/Configs/mullvad-al-tia-wg-001.conf",
    "windscribe-south-korea-hanri-seoul-2-with-a-long-name.conf",
    "서울 3번 서버.conf",
    "./ProtonVPN_KR-FREE#12.conf",
)


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_names_are_told(name: str) -> None:
    """Positive control: messages have the file's name, however long its path."""
    assert sayable(name) == name


def test_a_private_key_as_the_servers_is_not_in_a_plan() -> None:
    """What was pasted as the server's public key is hidden in the command where it is the file's own secret."""
    one = key(1, "vpn1.example")
    pasted = base64.b64encode(one.private.reveal()).decode()
    for public, shown in ((PUBLIC, True), (pasted, False)):
        peer = Peer(public_key=public, preshared=None, keepalive_seconds=25, endpoint=one.endpoint)
        device = Device(interface="wg101", private=Secret.parse_private(pasted), peer=peer)
        assert (public in device.describe("set")) is shown


# --- what is no file


@pytest.fixture
def odd(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """Things that are no files of a client."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "long").write_bytes(b"#" * (intake.CONF_BYTES + 1))
    (tmp_path / "link").symlink_to("/dev/zero")
    yield {
        "named pipe": tmp_path / "pipe",
        "folder": tmp_path / "folder",
        "device": Path("/dev/zero"),
        "a device": tmp_path / "link",
        "too long": tmp_path / "long",
        "No such file": tmp_path / "none",
    }


def test_what_is_no_file_is_named_at_once(odd: dict[str, Path], tmp_path: Path) -> None:
    """A pipe that nobody writes to, a device, a folder, a file over the bound: one error for all, and code 78."""
    with pytest.raises(ConfigurationError) as caught:
        commands.bring([str(path) for path in odd.values()], Paths(root=tmp_path))
    lines = caught.value.message.splitlines()
    assert len(lines) == len(odd)
    for (words, path), line in zip(odd.items(), lines, strict=True):
        assert line.startswith(f"{path}: ")
        assert words in line
    assert stat.S_ISFIFO(odd["named pipe"].stat().st_mode)


def _import(stdin: int, patience: str = "1") -> subprocess.CompletedProcess[str]:
    """`netctl keys import -`, which waits PATIENCE seconds for the end."""
    imports = "from netctl import __main__ as program; from fleet.client_files import intake"
    return subprocess.run(
        [sys.executable, "-c", f"{imports}; intake.READ_SECONDS = {patience}; program.main()", "keys", "import", "-"],
        stdin=stdin,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "FLEET_ROOT": "/nonexistent"},
    )


def test_a_terminal_is_no_file() -> None:
    """Nobody types a key: a usage error instead of a wait for ever."""
    own, other = pty.openpty()
    try:
        done = _import(other)
    finally:
        os.close(own)
        os.close(other)
    assert done.returncode == ExitCode.USAGE
    assert "is a terminal" in done.stderr


def test_an_input_without_an_end_is_given_up() -> None:
    """A program that says something and never ends; one that says too much is given up at once."""
    reader, writer = os.pipe()
    os.write(writer, b"[Interface]\n")
    try:
        done = _import(reader)
        assert (done.returncode, "did not end within 1 s" in done.stderr) == (ExitCode.CONFIGURATION, True), done
    finally:
        os.close(reader)
        os.close(writer)
    zeros = os.open("/dev/zero", os.O_RDONLY)
    try:
        done = _import(zeros, "60")
        assert (done.returncode, "too long" in done.stderr) == (ExitCode.CONFIGURATION, True), done
    finally:
        os.close(zeros)


LOCKED = """
import os, re, resource, sys
from netctl import privileges
from netctl.plan.key import Secret
if os.geteuid() == 0 and sys.argv[2:]:  # as netctl runs: no capability, and the limit that a container may have
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 20, 1 << 20))
    os.setresuid(65534, 65534, 65534)
if "all" in sys.argv[1]:
    privileges.keep_memory()
if "one" in sys.argv[1]:
    kept = [Secret(bytes([n]) * 32) for n in range(200)]
print(re.search(r"VmLck:\\s+(\\d+) kB", open("/proc/thread-self/status").read())[1])
"""


@pytest.mark.parametrize("words", [["all one"], ["one", "limited"], ["all one", "limited"]])
def test_no_page_with_a_key_is_swapped(words: list[str], root: None) -> None:
    """All of the process is locked, or where the limit cannot be lifted, the pages of each secret (control: none)."""

    def locked(*arguments: str) -> int:
        command = [sys.executable, "-c", LOCKED, *arguments]
        return int(subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout)

    assert locked("", *words[1:]) == 0
    assert locked(*words) >= 4
