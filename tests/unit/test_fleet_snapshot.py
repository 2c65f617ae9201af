"""The settings of a start: read as they were written, compared key by key."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet import snapshot
from fleet.errors import ConfigurationError
from fleet.model import Paths
from fleet.operate import configuration
from fleet.snapshot import Snapshot

EXAMPLE = Path(__file__).resolve().parents[2] / "docs/fleet.example.toml"
CHANGES = {
    "count = 8": ("count = 7", "workers.count"),
    "[egress]\n": ("[egress]\ntimeout_seconds = 3\n", "egress.timeout_seconds"),
    "[reach]\n": ('[reach]\nallow = ["10.0.0.0/8"]\n', "reach.allow"),
    "[loop]\n": ("[loop]\nattempts = 2\n", "loop.attempts"),
    "[wireguard]\n": ("[wireguard]\nmtu = 1300\n", "wireguard.mtu"),
    "[verify]\n": ('[verify]\nstun = ""\n', "verify.stun"),
}


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(root=tmp_path)
    made.snapshot.parent.mkdir(parents=True)
    return made


def written(text: str) -> Snapshot:
    """The snapshot of the settings TEXT."""
    return Snapshot(release=Path("/opt/fleet/release/1"), fleet=configuration.parse(text, "test"))


def test_it_is_read_as_it_was_written(paths: Paths) -> None:
    """Every setting of the example, with networks, paths, Korean and a task's own options of every kind."""
    text = EXAMPLE.read_text().replace("wireless keyboard", "커피") + "nested = { a = [1, 2.5, true], b = {} }\n"
    made = written(text.replace("[reach]\n", '[reach]\nallow = ["10.0.0.0/8", "fd00::/8"]\n'))
    snapshot.write(made, paths)
    assert snapshot.read(paths.snapshot) == made == snapshot.last(paths.snapshot)
    assert made.fleet.task.options["query"] == "커피"
    assert made.fleet.task.options["nested"] == {"a": [1, 2.5, True], "b": {}}
    assert snapshot.differences(made.fleet, snapshot.read(paths.snapshot).fleet) == ()


def test_none_is_said(paths: Paths) -> None:
    """Before the first start there is none; whoever needs one is told what writes it."""
    assert snapshot.last(paths.snapshot) is None
    with pytest.raises(ConfigurationError, match="no fleet was started here") as caught:
        snapshot.read(paths.snapshot)
    assert caught.value.hint == "fleet up"


def test_one_of_another_release_is_refused(paths: Paths) -> None:
    """A key too many, a value that is none, half a file: each is named, with what to do."""
    text = written(EXAMPLE.read_text()).model_dump_json()
    for wrong, word in (
        (text.replace('"isolation"', '"colour":"red","isolation"'), r"fleet\.colour: there is no such key"),
        (text.replace('"count":8', '"count":0'), r"fleet\.workers\.count: "),
        (text[:100], "fleet.json: "),
    ):
        assert wrong != text
        paths.snapshot.write_text(wrong)
        with pytest.raises(ConfigurationError, match=word) as caught:
            snapshot.read(paths.snapshot)
        assert "fleet down" in caught.value.hint


def test_differences_are_named_as_in_the_file() -> None:
    """Each change of a table that supervisord.conf knows nothing of is told by its key, and nothing else is."""
    text = EXAMPLE.read_text()
    usual, all_changed = written(text).fleet, text
    for old, (new, key) in CHANGES.items():
        assert old in text
        assert snapshot.differences(usual, written(text.replace(old, new)).fleet) == (key,)
        all_changed = all_changed.replace(old, new)
    assert snapshot.differences(usual, written(all_changed).fleet) == tuple(sorted(key for _, key in CHANGES.values()))


def test_options_of_the_task_are_told_apart() -> None:
    """An option that is new, gone or another is a key of its own."""
    text = EXAMPLE.read_text()
    one, other = written(f"{text}a = 1\nb = 2\n").fleet, written(f"{text}b = 3\nc = 4\n").fleet
    assert snapshot.differences(one, other) == ("task.options.a", "task.options.b", "task.options.c")
