"""fleet.toml -> Fleet: mistakes come all at once, and --workers beats the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.errors import ConfigurationError, ExitCode
from fleet.model import Paths
from fleet.operate import configuration

LEAST = '[dns]\nresolvers = ["198.18.0.53"]\n[egress]\nurls = ["https://shop.example/ip"]\n'


def test_every_mistake_at_once() -> None:
    """Each mistake is named with file, key and value, in one error with code 78."""
    text = (
        'isolaton = "uid"\n[workers]\ncount = 0\n[wireguard]\nbackend = "magic"\n[dns]\nresolvers = ["nowhere"]\n'
        '[egress]\nurls = ["ftp://a"]\n'
    )
    with pytest.raises(ConfigurationError) as caught:
        configuration.parse(text, "fleet.toml")
    assert caught.value.exit_code == ExitCode.CONFIGURATION
    lines = caught.value.message.splitlines()
    assert len(lines) == 5
    assert all(line.startswith("fleet.toml: ") for line in lines)
    for key, value in (("workers.count", "0"), ("wireguard.backend", "'magic'"), ("dns.resolvers.0", "'nowhere'")):
        assert any(line.startswith(f"fleet.toml: {key}: ") and f"(it is {value})" in line for line in lines), key
    assert "fleet.toml: isolaton: there is no such key" in lines


def test_missing_tables_are_named() -> None:
    """Missing values without a default are reported as missing."""
    with pytest.raises(ConfigurationError, match=r"dns: is missing\n.*egress: is missing"):
        configuration.parse("", "fleet.toml")


@pytest.mark.parametrize("text", ["[workers", "a = ", "\x00"])
def test_broken_toml_is_a_configuration_error(text: str) -> None:
    """For a file that is not TOML, the error gives the place."""
    with pytest.raises(ConfigurationError, match="is not TOML"):
        configuration.parse(text, "fleet.toml")


def test_missing_file_says_what_to_do(tmp_path: Path) -> None:
    """Without a file the hint names the example."""
    with pytest.raises(ConfigurationError) as caught:
        configuration.load(tmp_path / "fleet.toml")
    assert "fleet.example.toml" in caught.value.hint


@pytest.mark.parametrize("line", ["pause_seconds = inf", "pause_seconds = nan"])
def test_numbers_are_finite(line: str) -> None:
    """TOML has inf and nan; settings refuse them, as JSON has none."""
    with pytest.raises(ConfigurationError, match=r"loop\.pause_seconds: .*finite"):
        configuration.parse(f"{LEAST}[loop]\n{line}\n", "fleet.toml")


@pytest.mark.parametrize(
    "address", ["mysql://h/d", "postgresql://u:secret@h/d", "hub.db", "postgresql://u@h:secret@x/d", "sqlite:////a.db"]
)
def test_a_database_has_an_address_without_a_password(address: str) -> None:
    """Another kind of database is an error, and so is a password, which no message repeats: settings are not secret."""
    with pytest.raises(ConfigurationError, match=r"hub\.database: ") as caught:
        configuration.parse(f'{LEAST}[hub]\ndatabase = "{address}"\n', "fleet.toml")
    assert "secret" not in caught.value.message


def test_workers_of_the_command_line_beat_the_file() -> None:
    """--workers replaces workers.count, within the same bounds, and changes nothing else."""
    fleet = configuration.parse(f"[workers]\nfirst_uid = 9990\n{LEAST}", "fleet.toml")
    fewer = configuration.with_workers(fleet, 3, "--workers")
    assert [worker.uid for worker in fewer.members] == [9990, 9991, 9992]
    assert configuration.with_workers(fewer, 8, "--workers") == fleet
    for wrong in (0, 513, 11):
        with pytest.raises(ConfigurationError, match=f"--workers: .*it is {wrong}"):
            configuration.with_workers(fleet, wrong, "--workers")


def refusing(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Make root's attempt to use a named network namespace end with CODE."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("fleet.machine.spaces.NAMED", ("sh", "-c", f"echo unshare: no >&2; exit {code}"))


def test_a_worker_has_a_namespace_of_its_own_where_it_can(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The default is netns if the machine supports it; an explicit setting is taken in any case."""
    here = Paths(root=tmp_path)
    refusing(monkeypatch, 0)
    assert configuration.resolved(configuration.parse(LEAST, "test"), here).isolation == "netns"
    refusing(monkeypatch, 1)
    for name in ("uid", "netns"):
        said = configuration.parse(f'isolation = "{name}"\n{LEAST}', "test")
        assert configuration.resolved(said, here).isolation == name


def test_uid_is_taken_with_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """If no namespace can be made or named, or services of the host are wanted, which it lacks: uid, and the reason."""
    here = Paths(root=tmp_path)
    plain = configuration.parse(LEAST, "test")
    helped = configuration.parse(f"{LEAST}[reach]\nloopback_ports = [3128]\n", "test")
    for fleet, paths, code, why in (
        (plain, here, 1, "unshare: no"),
        (helped, here, 0, "loopback_ports"),
        (plain, Paths(root=Path("/proc")), 0, "in /proc: "),
    ):
        refusing(monkeypatch, code)
        taken = configuration.resolved(fleet, paths)
        assert taken.isolation == "uid" and why in configuration.why_uid(fleet, paths)
        assert configuration.with_workers(taken, 3, "--workers").isolation == "uid"
