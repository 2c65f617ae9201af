"""fleet.toml -> supervisord.conf, judged by supervisor's own parser."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from supervisor.options import ServerOptions

from fleet import backends
from fleet.backends import KERNEL, USERSPACE
from fleet.errors import ConfigurationError, ExitCode
from fleet.model import Fleet, Paths
from fleet.operate import configuration
from fleet.operate.doctor import host
from fleet.operate.render import supervisord_conf
from fleet.programs import Installation
from fleet.settings.hub import HubSettings

FLEET = """
isolation = "uid"
[workers]
count = 3
stop_wait_seconds = 17.5
[dns]
resolvers = ["198.18.0.53"]
[egress]
urls = ["https://shop.example/ip"]
"""


@pytest.fixture
def fleet() -> Fleet:
    return configuration.parse(FLEET, "test")


def parsed(text: str, folder: Path) -> Any:
    """TEXT as supervisor understands it: the options object, with its process groups."""
    path = folder / "supervisord.conf"
    path.write_text(text)
    options = ServerOptions()
    options.realize(["-c", str(path)])
    return options


def installation(root: Path) -> Installation:
    (root / "var/log/fleet").mkdir(parents=True, exist_ok=True)
    (root / "run/fleet").mkdir(parents=True, exist_ok=True)
    return Installation(paths=Paths(root=root))


def groups(options: Any) -> dict[str, list[str]]:
    return {group.name: [program.name for program in group.process_configs] for group in options.process_group_configs}


def programs(options: Any) -> dict[str, Any]:
    return {program.name: program for group in options.process_group_configs for program in group.process_configs}


def test_kernel_backend_has_netctl_and_workers_only(fleet: Fleet, tmp_path: Path) -> None:
    """With kernel WireGuard there is one program per worker, netctl, and supervisord's event listener."""
    options = parsed(supervisord_conf(fleet, installation(tmp_path), KERNEL), tmp_path)
    assert groups(options) == {"netctl": ["netctl"], "worker": ["w1101", "w1102", "w1103"], "rearm": ["rearm"]}


def test_where_there_are_jobs_there_is_a_hub(fleet: Fleet, tmp_path: Path) -> None:
    """It has its own account, starts before the workers and ends after them; its command needs no shell quoting."""
    with_jobs = fleet.model_copy(update={"hub": HubSettings(jobs="first")})
    options = parsed(supervisord_conf(with_jobs, installation(tmp_path), KERNEL), tmp_path)
    order = {group.name: group.priority for group in options.process_group_configs}
    assert order["netctl"] < order["hub"] < order["worker"]
    words = shlex.split(programs(options)["hub"].command)
    assert "--reuid=fleet-hub" in words and words[-2:] == ["hub", "serve"]


def test_what_stops_workers_is_there_where_the_page_may(fleet: Fleet, tmp_path: Path) -> None:
    """By default there is no such program; if there is one, it runs as root without capabilities."""

    def found(*acts: str, port: int = 8470) -> Any:
        web = {"port": port, "token_file": "/token", **({"acts": acts} if acts else {})}
        hub = HubSettings.model_validate({"jobs": "first", "web": web})
        text = supervisord_conf(fleet.model_copy(update={"hub": hub}), installation(tmp_path), KERNEL)
        return programs(parsed(text, tmp_path)).get("acts")

    assert found() is None and found("retry", "rotate") is None
    words = shlex.split(found("pause", "stop").command)
    assert {"--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"} <= {*words}
    assert words[-1] == "fleet.operate.acts"


def test_userspace_backend_adds_a_tunnel_per_worker(fleet: Fleet, tmp_path: Path) -> None:
    """With the userspace backend every worker has a wireguard-go, which starts before netctl and ends after it."""
    options = parsed(supervisord_conf(fleet, installation(tmp_path), USERSPACE), tmp_path)
    assert groups(options)["wg"] == ["wg101", "wg102", "wg103"]
    order = {group.name: group.priority for group in options.process_group_configs}
    assert order["wg"] < order["netctl"] < order["worker"]
    assert programs(options)["wg102"].command.endswith(" wireguard-go -f wg102")


def test_worker_ends_as_the_settings_say(fleet: Fleet, tmp_path: Path) -> None:
    """SIGTERM only to the worker, SIGKILL to its group; after final exit codes it is not restarted."""
    worker = programs(parsed(supervisord_conf(fleet, installation(tmp_path), KERNEL), tmp_path))["w1102"]
    assert (worker.stopwaitsecs, worker.stopasgroup, worker.killasgroup) == (18, False, True)
    assert worker.exitcodes == [int(code) for code in ExitCode.final()]
    assert (worker.startsecs, worker.startretries, worker.redirect_stderr) == (1, 20, True)
    assert worker.stdout_logfile == str(tmp_path / "var/log/fleet/w1102.log")


def test_commands_come_back_word_for_word(fleet: Fleet, tmp_path: Path) -> None:
    """Spaces, percent signs and single quotes in paths survive supervisor's expansion and splitting."""
    odd = tmp_path / "100% of it's here"
    place = installation(odd)
    found = programs(parsed(supervisord_conf(fleet, place, USERSPACE), tmp_path))
    assert shlex.split(found["w1103"].command) == place.worker(fleet.members[2])
    assert shlex.split(found["netctl"].command) == place.netctl("serve")


def test_every_program_gets_one_fixed_environment(fleet: Fleet, tmp_path: Path) -> None:
    """FLEET_ROOT is passed to every program, and no setting is: those are in the snapshot."""
    options = parsed(supervisord_conf(fleet, installation(tmp_path / "50%"), KERNEL), tmp_path)
    for program in programs(options).values():
        assert program.environment["FLEET_ROOT"] == str(tmp_path / "50%")
        assert {name for name in program.environment if name.startswith("FLEET")} == {"FLEET_ROOT", "FLEET_ERRORS"}


def test_serving_with_namespaces_takes_one_capability_more(fleet: Fleet, tmp_path: Path) -> None:
    """Only netctl's `serve`, and only with isolation netns, may enter namespaces; its tunnels never."""
    alone = fleet.model_copy(update={"isolation": "netns"})
    found = programs(parsed(supervisord_conf(alone, installation(tmp_path), USERSPACE), tmp_path))
    assert "--bounding-set=-all,+net_admin,+sys_admin" in found["netctl"].command
    assert "sys_admin" not in found["wg101"].command
    usual = programs(parsed(supervisord_conf(fleet, installation(tmp_path), USERSPACE), tmp_path))
    assert "sys_admin" not in usual["netctl"].command


def test_netctl_gets_one_capability(fleet: Fleet, tmp_path: Path) -> None:
    """netctl runs before the browsers, as its own user with CAP_NET_ADMIN, can gain nothing, ends with supervisord."""
    netctl = programs(parsed(supervisord_conf(fleet, installation(tmp_path), KERNEL), tmp_path))["netctl"]
    words = shlex.split(netctl.command)
    assert netctl.umask == 0o077
    assert [word for word in words if word != "--memlock=unlimited"][:5] == [
        *("prlimit", "--core=1", "nice", "--adjustment=-10", "setpriv")
    ]
    assert {
        "--reuid=netctl",
        "--regid=fleet",
        "--clear-groups",
        "--bounding-set=-all,+net_admin",
        "--securebits=+noroot,+noroot_locked",
        "--no-new-privs",
        "--pdeathsig=TERM",
    } <= set(words)


@pytest.mark.parametrize("name", ["a\nb", 'a"b', "a ;b", "a #b", "a\\b"])
def test_what_supervisor_cannot_quote_is_refused(fleet: Fleet, tmp_path: Path, name: str) -> None:
    """A path that would change the file's meaning is a configuration error; no file is written."""
    with pytest.raises(ConfigurationError):
        supervisord_conf(fleet, Installation(paths=Paths(root=tmp_path / name)), KERNEL)


def test_512_workers_fit(fleet: Fleet, tmp_path: Path) -> None:
    """The largest fleet renders; supervisord gets enough descriptors for it, which the doctor checks."""
    many = configuration.with_workers(fleet, 512, "test")
    options = parsed(supervisord_conf(many, installation(tmp_path), USERSPACE), tmp_path)
    assert len(programs(options)) == 1026
    assert 8 * 1025 < options.minfds == host._SUPERVISOR_FILES


@pytest.mark.parametrize(
    ("there", "found"), [(["wireguard-go", "wireguard"], "wireguard-go"), (["wireguard"], "wireguard")]
)
def test_wireguard_go_is_found_by_either_name(
    there: list[str], found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian's package calls the program wireguard-go, Ubuntu 22.04's wireguard."""
    for name in there:
        (tmp_path / name).touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert backends.wireguard_go() == found
