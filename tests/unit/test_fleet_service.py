"""deploy/fleet.service, compared with the exit codes of the program that it starts."""

from __future__ import annotations

import configparser
from pathlib import Path

from fleet.errors import ExitCode

UNIT = Path(__file__).resolve().parents[2] / "deploy/fleet.service"


def unit() -> configparser.ConfigParser:
    """The unit; its keys as systemd spells them."""
    made = configparser.ConfigParser(strict=True, interpolation=None)
    made.optionxform = str  # type: ignore[assignment, method-assign]  # the documented way
    made.read_string(UNIT.read_text())
    return made


def test_final_codes_are_not_tried_again() -> None:
    """systemd starts the fleet again after every code but those after which a new start cannot help."""
    service = unit()["Service"]
    assert service["Restart"] == "on-failure"
    assert {int(word) for word in service["RestartPreventExitStatus"].split()} == {*ExitCode.final()} - {ExitCode.DONE}
    assert ExitCode.TRY_LATER not in ExitCode.final()


def test_try_later_is_never_given_up() -> None:
    """No limit of starts (systemd.unit(5): an interval of 0), and a pause between two of them."""
    assert unit()["Unit"]["StartLimitIntervalSec"] == "0"
    assert "StartLimitBurst" not in unit()["Unit"]
    assert int(unit()["Service"]["RestartSec"]) >= 5
