"""networkd and NetworkManager: when their drop-ins are needed, what --fix writes, and that the next run says ok."""

from __future__ import annotations

import configparser
import os
from pathlib import Path

import pytest

from fleet.errors import FleetError
from fleet.operate import configuration
from fleet.operate.doctor import dropins, examine
from fleet.operate.doctor.check import Verdict
from fleet.operate.doctor.machine import Answer
from tests.unit.doctored import BOOT, SETTINGS, STARTED, Laid

CHECKOUT = Path(__file__).resolve().parents[2]
NAMES = ("wg101", "wg101s", "wg102", "wg102s")


@pytest.fixture
def laid(tmp_path: Path) -> Laid:
    """A machine on which both run."""
    made = Laid(tmp_path)
    made.process(11, "systemd-network")
    made.process(12, "NetworkManager")
    return made


def _fix(laid: Laid) -> list[str]:
    case = laid.case
    return list(examine.fix(case, [check.on(case) for check in examine.CHECKS]))


def test_without_drop_ins_both_are_warnings(laid: Laid) -> None:
    """Both defaults of networkd are named, and so are the interfaces that NetworkManager may take."""
    networkd, manager = laid.finding("networkd"), laid.finding("networkmanager")
    assert (networkd.verdict, networkd.fixable) == (Verdict.WARNING, True)
    assert "ManageForeignRoutingPolicyRules and ManageForeignRoutes" in networkd.seen
    assert (manager.verdict, manager.fixable) == (Verdict.WARNING, True)
    assert all(name in manager.seen for name in NAMES)


def test_who_does_not_run_needs_none(tmp_path: Path) -> None:
    """Not running, or running in a container's network: ok, and --fix writes nothing."""
    laid = Laid(tmp_path)
    laid.process(11, "systemd-network", network="net:[2]")
    assert laid.finding("networkd").verdict is Verdict.OK
    assert _fix(laid) == []
    assert not (laid.root / "etc/systemd").exists()


def test_fix_writes_both_and_the_next_look_is_content(laid: Laid, root: None) -> None:
    """--fix reports what it wrote; a program that was started before that still needs a restart."""
    said = _fix(laid)
    assert len(said) == 2 and "systemctl restart systemd-networkd" in said[0]
    again = laid.finding("networkd")
    assert (again.verdict, again.fixable, "newer" in again.seen) == (Verdict.WARNING, False, True)
    for path in (dropins.NETWORKD, dropins.NETWORK_MANAGER):
        assert (laid.root / path).stat().st_mode & 0o777 == 0o644
        os.utime(laid.root / path, (STARTED - 50, STARTED - 50))  # as after the restart
    assert laid.finding("networkd").verdict is Verdict.OK
    assert laid.finding("networkmanager").verdict is Verdict.OK
    assert _fix(laid) == []
    assert BOOT < STARTED


def test_another_range_is_noticed(laid: Laid, root: None) -> None:
    """More workers than the drop-in names: a warning again, and --fix writes the new names."""
    _fix(laid)
    laid.write("etc/fleet/fleet.toml", SETTINGS.replace("count = 2", "count = 3"))
    found = laid.finding("networkmanager")
    assert (found.verdict, "wg103" in found.seen, "wg102" in found.seen) == (Verdict.WARNING, True, False)
    _fix(laid)
    assert laid.finding("networkmanager").verdict is Verdict.OK


@pytest.mark.parametrize("no", ["no", "false", "off", "0"])
def test_the_operators_own_way_counts(laid: Laid, no: str) -> None:
    """The same settings in networkd.conf itself, or in a drop-in of another name, are ok."""
    laid.write("etc/systemd/networkd.conf", f"# by hand\n[Network]\nManageForeignRoutes={no}\n")
    laid.write("usr/lib/systemd/networkd.conf.d/a.conf", f"[Network]\nManageForeignRoutingPolicyRules={no}\n")
    assert laid.finding("networkd").verdict is Verdict.OK
    laid.write("etc/systemd/networkd.conf.d/b.conf", "[Network]\nManageForeignRoutes=yes\n")
    assert laid.finding("networkd").verdict is Verdict.WARNING


def test_a_later_file_of_the_operators_is_named(laid: Laid) -> None:
    """It overrides what --fix writes: the doctor names it, and does not promise a repair."""
    laid.write("etc/systemd/networkd.conf.d/90-own.conf", "[Network]\nManageForeignRoutes=yes\n")
    found = laid.finding("networkd")
    assert (found.verdict, found.fixable) == (Verdict.WARNING, False)
    assert "ManageForeignRoutes in " in found.seen and "90-own.conf after the fleet's drop-in" in found.seen
    assert "then: fleet doctor --fix" in found.command


@pytest.mark.parametrize(
    ("specs", "held"),
    [
        ("interface-name:wg101;interface-name:wg101s;interface-name:wg102,interface-name:wg102s", True),
        ("interface-name:wg*", True),
        ("interface-name:~wg10?;interface-name:wg1??s", True),
        ("*,except:type:wifi", True),
        ("*,except:type:wireguard", False),
        ("*;except:interface-name:wg102", False),
        ("interface-name:=wg101", False),
        ("mac:02:00:00:00:00:01", False),
    ],
)
def test_device_lists_are_read_as_networkmanager_reads_them(laid: Laid, specs: str, held: bool) -> None:
    """Names, patterns of * and ?, literal names, exceptions that win."""
    laid.write("etc/NetworkManager/conf.d/x.conf", f"[keyfile]\nunmanaged-devices={specs}\n")
    assert (laid.finding("networkmanager").verdict is Verdict.OK) == held


def test_later_files_add_and_shadow(laid: Laid, root: None) -> None:
    """`+=` adds to the values of earlier files; a file in /etc hides the one with its name in /usr/lib."""
    laid.write("usr/lib/NetworkManager/conf.d/10-all.conf", "[keyfile]\nunmanaged-devices=*\n")
    assert laid.finding("networkmanager").verdict is Verdict.OK
    laid.write("etc/NetworkManager/conf.d/10-all.conf", "")
    assert laid.finding("networkmanager").verdict is Verdict.WARNING
    laid.write("etc/NetworkManager/NetworkManager.conf", "[keyfile]\nunmanaged-devices=interface-name:eth9\n")
    _fix(laid)
    assert laid.finding("networkmanager").verdict is Verdict.OK


def test_an_operators_own_tunnel_stays_managed() -> None:
    """Neither the drop-in of the doctor nor the one to install by hand takes wg0, wg1 or another's interface."""
    fleet = configuration.parse(SETTINGS, "test")
    for text in (dropins.network_manager_text(fleet), (CHECKOUT / "deploy/networkmanager.conf").read_text()):
        line = next(line for line in text.splitlines() if line.startswith("unmanaged-devices+="))
        specs = line.partition("=")[2].split(";")
        assert all(dropins.matches(specs, name) for name in NAMES)
        assert not any(dropins.matches(specs, name) for name in ("wg0", "wg1", "wg10", "wg201", "eth0", "wg-home"))


def test_shipped_networkd_drop_in_is_the_doctors() -> None:
    """What deploy/ ships for installing by hand sets what --fix sets."""
    texts = ((CHECKOUT / "deploy/networkd.conf").read_text(), dropins.networkd_text())
    parsed = []
    for text in texts:
        parser = configparser.ConfigParser()
        parser.read_string(text)
        parsed.append({name: dict(parser[name]) for name in parser.sections()})
    assert parsed[0] == parsed[1]


def test_left_overs_are_removed_and_named(laid: Laid, root: None) -> None:
    """--fix lets netctl clean up and reports what was removed; netctl's refusal is an error with its own message."""
    laid.answers["netctl cleanup"] = Answer(code=0, out='["ip rule delete priority 10101"]')
    assert any("left-over: removed: " in line and "10101" in line for line in _fix(laid))
    assert "netctl cleanup" in laid.asked
    finding = laid.finding("left-over")
    laid.answers["netctl cleanup"] = Answer(code=78, err="netctl: is running already")
    with pytest.raises(FleetError, match="is running already"):
        list(examine.fix(laid.case, [finding]))
