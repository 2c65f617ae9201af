"""Control groups for workers, on folders that look like the kernel's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fleet.errors import ConfigurationError
from fleet.machine import cgroups
from fleet.operate import configuration, prepare

FLEET = '[workers]\nmemory_mebibytes = {}\n[dns]\nresolvers = ["10.64.0.1"]\n[egress]\nurls = ["https://a.example/"]\n'
FILES = {"cgroup.controllers": "cpu memory pids\n", "cgroup.subtree_control": "\n", "cgroup.procs": f"{os.getpid()}\n"}
NOBODY = 4_194_304
"""No process has this number: it is the least that Linux never gives."""


def group(path: Path, *, delegated: bool = True, **changes: str) -> Path:
    """Make a folder with the files of a group; CHANGES are their contents, by name without `cgroup.`."""
    path.mkdir()
    for name, content in {**FILES, **{f"cgroup.{name}": text for name, text in changes.items()}}.items():
        (path / name).write_text(content)
    if delegated:
        os.setxattr(path, "user.delegate", b"1")
    return path


@pytest.fixture
def service(tmp_path: Path) -> Path:
    """A service's group that was delegated to it."""
    return group(tmp_path / "fleet.service")


def test_own_group_is_found_where_it_is_mounted(tmp_path: Path) -> None:
    """By the line of cgroup v2, and the mount that shows that part of the tree, also in a container."""
    (tmp_path / "cgroup").write_text("4:memory:/old\n0::/system.slice/fleet.service\n")
    line = "30 23 0:26 {root} {place} rw,nosuid shared:4 - {kind} cgroup2 rw\n"
    (tmp_path / "mountinfo").write_text(
        line.format(root="/", place="/sys", kind="sysfs")
        + line.format(root="/other", place="/wrong", kind="cgroup2")
        + line.format(root="/system.slice", place="/sys/fs/cgroup", kind="cgroup2")
    )
    assert cgroups.own(tmp_path) == Path("/sys/fs/cgroup/fleet.service")
    (tmp_path / "cgroup").write_text("4:memory:/old\n")
    assert cgroups.own(tmp_path) is None


def test_a_delegated_group_is_divided(service: Path) -> None:
    """This process moves below, then the controllers are enabled; programs that carry packets get more weight."""
    (service / "supervisor").mkdir()
    (service / "supervisor/cpu.weight").write_text("100\n")
    assert cgroups.divide(service)
    assert (service / "supervisor/cgroup.procs").read_text() == str(os.getpid())
    assert (service / "supervisor/cpu.weight").read_text() == "10000"
    assert not (service / "supervisor/io.weight").exists(), "no file of ours where the kernel has none"


@pytest.mark.parametrize(
    "changes",
    [
        {"delegated": False},
        {"controllers": "hugetlb\n"},
        {"controllers": "pids\n"},
        {"procs": f"{NOBODY}\n{os.getpid()}\n"},
    ],
    ids=["systemd's", "no controller", "one controller", "somebody else in it"],
)
def test_a_group_of_others_is_left_alone(tmp_path: Path, changes: dict[str, str]) -> None:
    """Not delegated, without a controller, or with other processes in it: nothing is made, nothing is written."""
    made = group(tmp_path / "group", **changes)  # type: ignore[arg-type]
    before = {path.name: path.read_text() for path in made.iterdir()}
    assert not cgroups.divide(made)
    assert {path.name: path.read_text() for path in made.iterdir()} == before


def test_a_worker_has_a_group_beside_or_below(service: Path) -> None:
    """In a divided group it is beside the supervisor's, else below the launcher's; without cgroup v2 there is none."""
    cgroups.divide(service)
    assert cgroups.of_worker("w1101", service / "supervisor") == service / "supervisor/w1101"
    (service / "cgroup.subtree_control").write_text("memory pids\n")
    assert cgroups.of_worker("w1101", service / "supervisor") == service / "w1101"
    assert cgroups.divide(service / "supervisor"), "a second `fleet up` finds it done"
    assert cgroups.of_worker("w1101", None) is None


def test_a_group_goes_with_its_last_process(tmp_path: Path) -> None:
    """A worker's empty group is removed; one with processes stays, and a missing one is no error."""
    group = tmp_path / "w1101"
    cgroups.enter(group)
    assert (group / "cgroup.procs").read_text() == "0"
    cgroups.leave(group)
    assert group.exists()
    (group / "cgroup.procs").unlink()  # the kernel's own files stop no rmdir
    cgroups.leave(group)
    cgroups.leave(group)
    assert not group.exists()


def test_limits_are_written_before_the_worker_is_in(service: Path) -> None:
    """Memory in bytes, no swap, number of processes, weights; then the launcher joins. 0 MiB means no limit."""
    (service / "w1101").mkdir()
    for name in ("memory.swap.max", "cpu.weight", "io.weight"):
        (service / "w1101" / name).write_text("max\n")
    cgroups.join(service / "w1101", memory_mebibytes=512, processes=300, cpu_weight=70, io_weight=80)
    found = {path.name: path.read_text() for path in (service / "w1101").iterdir()}
    wanted = {"memory.max": str(512 << 20), "memory.swap.max": "0", "pids.max": "300", "cgroup.procs": "0"}
    assert found == {**wanted, "cpu.weight": "70", "io.weight": "80"}
    cgroups.join(service / "w1101", memory_mebibytes=0, processes=300, cpu_weight=70, io_weight=80)
    assert (service / "w1101/memory.max").read_text() == "max"


def test_a_limit_that_nothing_holds_is_said(service: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`fleet up` warns if a memory limit has no group to enforce it, and is silent otherwise."""
    limited, free = (configuration.parse(FLEET.format(number), "test") for number in (1024, 0))
    (tmp_path / "cgroup").write_text("4:memory:/old\n")
    prepare.divide_memory(free, tmp_path)
    assert capsys.readouterr().err == ""
    prepare.divide_memory(limited, tmp_path)
    assert "workers.memory_mebibytes has no effect" in capsys.readouterr().err
    (tmp_path / "cgroup").write_text("0::/fleet.service\n")
    (tmp_path / "mountinfo").write_text(f"30 23 0:26 / {tmp_path} rw shared:4 - cgroup2 cgroup2 rw\n")
    prepare.divide_memory(limited, tmp_path)
    assert capsys.readouterr().err == "" and (service / "supervisor").is_dir()
    with pytest.raises(ConfigurationError, match=r"workers\.memory_mebibytes: .*256"):
        configuration.parse(FLEET.format(100), "test")
