"""Finding browser and driver, and patching the one driver copy."""

from __future__ import annotations

import ipaddress
import shutil
import sys
from pathlib import Path

import pytest

from fleet.errors import ConfigurationError, MissingProgram
from fleet.launch_spec import LaunchSpec
from fleet.model import BrowserSettings, DnsSettings, EgressSettings, Fleet, Paths, Worker
from worker import prepare
from worker.browser import switches
from worker.browser.interface import Installed


def program(path: Path, says: str) -> Path:
    """A program that answers --version."""
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def settings(tmp_path: Path, browser: str, driver: str, kind: str = "selenium") -> BrowserSettings:
    """Settings that name two programs with these versions."""
    return BrowserSettings.model_validate(
        {
            "driver": kind,
            "binary": program(tmp_path / "browser", browser),
            "driver_binary": program(tmp_path / "driver", driver),
        }
    )


def test_versions_that_fit(tmp_path: Path) -> None:
    """The same major version fits, whatever stands behind it."""
    found = prepare.find(
        settings(tmp_path, "Chromium 156.0.1.2 built on Debian", "ChromeDriver 156.0.9.9 (abc)"), tmp_path
    )
    assert (found.version, found.major, found.driver) == ("156.0.1.2", 156, tmp_path / "driver")


def test_versions_that_differ(tmp_path: Path) -> None:
    """Different major versions are a clear error with what to install."""
    with pytest.raises(ConfigurationError, match=r"155\.0.*for version 156\.0") as caught:
        prepare.find(settings(tmp_path, "Google Chrome 155.0.1.2", "ChromeDriver 156.0.1.2"), tmp_path)
    assert "155" in caught.value.hint


def test_an_update_is_seen_at_the_next_start(tmp_path: Path) -> None:
    """Another file in the browser's place is looked at again; one that fits no driver is told with what to install."""
    wanted = settings(tmp_path, "Chromium 156.0.1.2", "ChromeDriver 156.0.1.2")
    before = prepare.find(wanted, tmp_path)
    assert prepare.current(before, wanted) is before
    settings(tmp_path, "Chromium 157.0.1.20", "ChromeDriver 157.0.1.2")
    now = prepare.current(before, wanted)
    assert now.version == "157.0.1.20" and prepare.current(now, wanted) is now
    program(tmp_path / "browser", "Chromium 158.0.1.200")
    with pytest.raises(ConfigurationError, match="158") as caught:
        prepare.current(now, wanted)
    assert "ChromeDriver of version 158" in caught.value.hint


@pytest.mark.parametrize("missing", ["binary", "driver_binary"])
def test_missing_program(tmp_path: Path, missing: str) -> None:
    """A browser or driver that is not there is code 69 and names the setting."""
    good = settings(tmp_path, "Chromium 156.0.1.2", "ChromeDriver 156.0.1.2")
    with pytest.raises(MissingProgram, match=f"browser.{missing}") as caught:
        prepare.find(good.model_copy(update={missing: tmp_path / "nothing"}), tmp_path)
    assert caught.value.exit_code == 69


def test_program_that_fails(tmp_path: Path) -> None:
    """A browser that cannot even say its version is named."""
    broken = settings(tmp_path, "nothing of use", "ChromeDriver 156.0.1.2")
    with pytest.raises(MissingProgram, match="says no version"):
        prepare.find(broken, tmp_path)


def test_patch_keeps_length_and_everything_else() -> None:
    """Only the betraying block changes, and no byte moves: it is an executable."""
    content = b"\x7fELF before {window.cdc_adoQpoasnfa76pfcZLmcfl_Array = window.Array;let x;} after \x00"
    patched = prepare.patch(content, "driver")
    assert len(patched) == len(content)
    assert patched.startswith(b'\x7fELF before {console.log("undetected chromedriver 1337!")}')
    assert patched.endswith(b" after \x00") and b"cdc" not in patched


def test_patch_that_finds_nothing() -> None:
    """A driver without the block is refused: undetected-chromedriver would not be undetected."""
    with pytest.raises(ConfigurationError, match="no code block"):
        prepare.patch(b"\x7fELF", "driver")


def test_copy_is_made_once_for_each_driver(tmp_path: Path) -> None:
    """The same driver gives the same copy; another version gets one of its own beside it."""
    driver = tmp_path / "chromedriver"
    driver.write_bytes(b"one {window.cdc_Array = 1;}" + b" " * 40)
    first = prepare.patched_copy(driver, tmp_path)
    made = first.stat().st_mtime_ns
    assert prepare.patched_copy(driver, tmp_path) == first and first.stat().st_mtime_ns == made
    driver.write_bytes(b"two {window.cdc_Array = 1;}" + b" " * 40)
    second = prepare.patched_copy(driver, tmp_path)
    assert second != first and first.exists() and second.stat().st_mode & 0o777 == 0o755


def test_the_word_headless_never_reaches_the_driver() -> None:
    """Switches with the words that undetected-chromedriver interprets are added behind its back, each once."""
    made = switches.add(BrowserSettings())
    assert "--headless=new" in made and "--lang=ko-KR" in made and "--no-sandbox" not in made
    assert not any("user-agent" in word for word in made), "no forged identity"
    assert "--no-sandbox" in switches.add(BrowserSettings(sandbox=False, i_know_what_no_sandbox_means=True))
    assert "--no-sandbox" in switches.DROP


def test_reachable_networks_count_as_public() -> None:
    """An exception names addresses as Chrome wants them, those of IPv6 in brackets; without any there is none."""
    networks = [ipaddress.ip_network("10.64.0.0/10"), ipaddress.ip_network("fd00::/8")]
    made = switches.policies([], networks)["LocalNetworkAccessIpAddressSpaceOverrides"]
    assert made == ["10.64.0.0/10=public", "[fd00::]/8=public"]
    assert switches.policies([])["LocalNetworkAccessIpAddressSpaceOverrides"] == []


def test_authorities_are_certificates(tmp_path: Path) -> None:
    """A file without a certificate is a configuration error that names it."""
    path = tmp_path / "ca.pem"
    path.write_text("nothing")
    with pytest.raises(ConfigurationError, match=r"ca\.pem"):
        switches.certificates(path)


def test_the_launcher_reads_what_was_written(tmp_path: Path) -> None:
    """A launch spec comes back from its file as it was; one field too many or too few is an error that names it."""
    fleet = Fleet(
        isolation="uid",
        dns=DnsSettings.model_validate({"resolvers": ["198.18.0.53"]}),
        egress=EgressSettings(urls=("https://a/ip",)),
    )
    installed = Installed(browser=Path("/b"), driver=Path("/d"), version="156.0")
    written = prepare.launch_spec(fleet, Paths(root=tmp_path), fleet.members[0], installed, prepare.etc_files(fleet))
    assert LaunchSpec.of_json(written.as_json()) == written
    assert (written.uid, written.account, written.space) == (1101, "w1101", "")
    with pytest.raises(TypeError, match="colour"):
        LaunchSpec.of_json(written.as_json().replace('"uid"', '"colour": 1, "uid"'))
    with pytest.raises(TypeError, match="uid"):
        LaunchSpec.of_json("{}")


def test_ports_of_two_workers_never_meet() -> None:
    """Each UID has two ports of its own, below the ephemeral range."""
    ports = [port for uid in range(1001, 10_000) for port in Worker(uid=uid).browser_ports]
    assert len(set(ports)) == len(ports)
    assert min(ports) > 1024 and max(ports) < 32_768


def test_real_programs_of_this_machine() -> None:
    """The browser and the driver that set-up installed fit each other."""
    assert shutil.which("chromedriver")
    found = prepare.find(BrowserSettings(driver="selenium"), Path("/nonexistent"))
    assert found.major > 100


def test_localhost_is_always_known(tmp_path: Path) -> None:
    """A minimal machine has no /etc/hosts: the worker's has localhost; a table that has it is taken as it is."""
    table = tmp_path / "hosts"
    assert "127.0.0.1 localhost" in prepare.hosts(table)
    table.write_text("# localhost\n203.0.113.9 shop\n")
    assert prepare.hosts(table).startswith("127.0.0.1 localhost\n") and "203.0.113.9 shop" in prepare.hosts(table)
    table.write_text("127.0.0.1 me localhost\n")
    assert prepare.hosts(table) == "127.0.0.1 me localhost\n"


def test_a_driver_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """After `bin/setup --without-undetected` the setting is refused with both ways out; `selenium` needs none of it."""
    monkeypatch.setitem(sys.modules, "undetected_chromedriver", None)
    with pytest.raises(MissingProgram) as caught:
        prepare.fitting(BrowserSettings())
    assert 'browser.driver is "undetected"' in caught.value.message
    assert 'browser.driver = "selenium"' in caught.value.hint and "sudo bin/setup" in caught.value.hint
    browser = BrowserSettings(driver="selenium", binary=Path("/nonexistent"))
    with pytest.raises(MissingProgram, match=r"browser\.binary"):
        prepare.fitting(browser)
