"""The repository's statements about itself are true."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from fleet import VERSION
from fleet.model import Fleet, Settings
from fleet.operate import configuration

CHECKOUT = Path(__file__).resolve().parents[1]
UNMAPPED = {"README.md", "README.ko.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "NOTICE", "pyproject.toml"}
"""Files that are what their names say wherever one finds them."""


def tracked() -> list[str]:
    """Every file of the repository; of the tree itself where there is no git."""
    try:
        listed = subprocess.run(
            ["git", "-c", f"safe.directory={CHECKOUT}", "ls-files"],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=True,
        )
        return listed.stdout.splitlines()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return [str(path.relative_to(CHECKOUT)) for path in CHECKOUT.rglob("*") if path.is_file()]


def readme_map() -> set[str]:
    """The names in the first column of the code block under `## Map`."""
    block = re.search(r"^## Map\n+```\w*\n(.*?)^```", (CHECKOUT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert block, "README.md has no code block under '## Map'"
    return {line.split()[0].rstrip("/") for line in block.group(1).splitlines() if line.strip()}


def test_map_in_readme_is_the_tree() -> None:
    """README's map names every folder and file at the top, and nothing that is not there."""
    top = {name.split("/")[0] for name in tracked()}
    shown = {name for name in top if not name.startswith((".", "requirements")) and name not in UNMAPPED}
    assert readme_map() == shown


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_lock_files_pin_with_hashes_and_name_no_index(name: str) -> None:
    """Every package is pinned with a hash, and the lock files name no index: the machine's settings choose it."""
    text = re.sub(r"^#.*\n", "", (CHECKOUT / name).read_text(), flags=re.MULTILINE)
    assert "://" not in text and "index-url" not in text
    requirements = re.findall(r"^[A-Za-z0-9_.-]+.*?(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    assert requirements
    for requirement in requirements:
        assert re.match(r"[A-Za-z0-9_.-]+(\[[\w,]+\])?==", requirement), requirement[:80]
        assert "--hash=sha256:" in requirement, requirement[:80]


def test_example_configuration_loads() -> None:
    """docs/fleet.example.toml is a valid configuration as it stands."""
    example = CHECKOUT / "docs/fleet.example.toml"
    assert configuration.load(example).workers.count == 8


def _keys(settings: type[Settings], prefix: str = "") -> set[str]:
    found: set[str] = set()
    for name, field in settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Settings):
            found |= _keys(kind, f"{prefix}{name}.")
        else:
            found.add(prefix + name)
    return found


def test_example_configuration_explains_every_key() -> None:
    """The example has every key, and every key that is shown as a comment exists."""
    shown, table = set[str](), ""
    for line in (CHECKOUT / "docs/fleet.example.toml").read_text().splitlines():
        if heading := re.fullmatch(r"\[([\w.]+)\]", line):
            table = f"{heading.group(1)}."
            shown.add(heading.group(1))
        elif key := re.match(r"(?:# )?(\w+) = ", line):
            shown.add(table + key.group(1))
    known = _keys(Fleet)
    assert known <= shown
    tables = {name.rpartition(".")[0] for name in known} | {name.split(".")[0] for name in known}
    assert {name for name in shown if not name.startswith("task.options")} - known <= tables


def test_commented_defaults_are_the_defaults() -> None:
    """Uncommenting every line that shows a default changes nothing."""
    text = (CHECKOUT / "docs/fleet.example.toml").read_text()
    free = ("binary", "driver_binary", "starts_at_once", "source", "traces")
    uncommented = re.sub(rf"^# (?!(?:{'|'.join(free)}) )(\w+ = )", r"\1", text, flags=re.MULTILINE)
    assert uncommented != text
    assert configuration.parse(uncommented, "uncommented") == configuration.parse(text, "example")


def test_shell_files_never_call_sudo_or_wg_quick() -> None:
    """A script that needs root says so and ends; it never asks for a password."""
    for name in tracked():
        text = (CHECKOUT / name).read_bytes()
        if text.startswith((b"#!/bin/sh", b"#!/bin/bash")):
            assert not re.search(rb"(?m)^\s*(exec\s+)?(sudo|wg-quick)\s", text), name


def test_shell_files_can_be_executed() -> None:
    """What begins with #! in bin/ and .ci/ is executable."""
    for path in [*(CHECKOUT / "bin").iterdir(), *(CHECKOUT / ".ci").iterdir()]:
        if path.read_bytes().startswith(b"#!"):
            assert path.stat().st_mode & 0o111 == 0o111, path


def test_one_version_everywhere() -> None:
    """The change log's newest section is the version that every program prints, and pyproject keeps none of its own."""
    sections = re.findall(r"^## (\S+) \((\S+)\)$", (CHECKOUT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert sections[0][0] == VERSION
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d|unreleased", date) for _, date in sections)
    assert "unreleased" not in [date for _, date in sections[1:]], "an earlier version has its day"
    assert 'dynamic = ["version"]' in (CHECKOUT / "pyproject.toml").read_text()


def rooms() -> dict[str, set[str]]:
    """By folder, the modules that the first code block under `## The rooms` of docs/architecture.md names."""
    text = (CHECKOUT / "docs/architecture.md").read_text()
    block = re.search(r"^## The rooms\n.*?^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert block, "docs/architecture.md has no code block under '## The rooms'"
    found: dict[str, set[str]] = {}
    folder = ""
    for line in block.group(1).splitlines():
        if line.startswith(" "):
            found[folder] |= set(line.split())
        else:
            folder = line.split()[0]
            found[folder] = set()
    return found


def test_rooms_of_the_architecture_are_the_tree() -> None:
    """Every folder of the programs is a room on the page, and the page names its modules, no more and no fewer."""
    there: dict[str, set[str]] = {}
    for name in tracked():
        folder, _, file = name.rpartition("/")
        if file.endswith(".py") and folder.split("/")[0] in (
            "fleet",
            "hub",
            "keyservice",
            "launcher",
            "netctl",
            "worker",
        ):
            there.setdefault(f"{folder}/", set()).update({file.removesuffix(".py")} - {"__init__"})
    assert rooms() == there
