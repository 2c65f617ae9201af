"""`fleet try`: which task it is about, and what of the answer is shown."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from fleet.errors import ConfigurationError, UsageError
from fleet.model import Fleet, TaskSettings
from fleet.operate import configuration, trial

FLEET = Fleet.model_validate({"dns": {"resolvers": ["192.0.2.53"]}, "egress": {"urls": ["https://www.example.org/ip"]}})


def asked(url: str | None = None, task: Path | None = None) -> TaskSettings:
    """What the command line is about."""
    return trial._task(argparse.Namespace(url=url, task=task and str(task)), FLEET)


def test_which_task(tmp_path: Path) -> None:
    """An address is visited, a file's [task] is done, without either the one of fleet.toml; both is one too many."""
    file = tmp_path / "price.toml"
    file.write_text('[task]\nrun = "watch"\n[task.options]\npages = ["https://a.example/"]\n')
    assert asked("https://a.example/").options == {"urls": ["https://a.example/"]}
    assert asked(task=file).run == "watch"
    assert asked() == FLEET.task
    with pytest.raises(UsageError):
        asked("https://a.example/", file)


@pytest.mark.parametrize("text", ["[task", "[task]\ncolour = 1", "[task]\noptions = 1", 'run = "watch"'])
def test_a_file_that_is_no_task(tmp_path: Path, text: str) -> None:
    """It is named, with code 78."""
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"a\.toml"):
        configuration.task(tmp_path / "a.toml")
    with pytest.raises(ConfigurationError, match="is not there"):
        configuration.task(tmp_path / "b.toml")
