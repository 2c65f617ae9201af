"""The doctor's checks, each on a good machine and on bad ones."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fleet.errors import ConfigurationError, ForeignObject, MissingProgram, TryLater
from fleet.operate import prepare
from fleet.operate.doctor import examine, network
from fleet.operate.doctor.check import Verdict
from tests.unit.doctored import SETTINGS, Change, Laid, answers, both, fails, settings, snap, tun


def login(kill: str, *, exclude: str = "", only: str = "") -> Change:
    """Run the doctor in a login of kim (UID 1000), of which logind.conf says KILL, EXCLUDE and ONLY."""
    said = f"KillUserProcesses={kill}\nKillExcludeUsers={exclude}\nKillOnlyUsers={only}\n"
    return both(
        lambda laid: laid.write("proc/self/cgroup", "0::/user.slice/user-1000.slice/session-3.scope\n"),
        answers("loginctl show-session", 0, said),
        answers("getent passwd 1000", 0, "kim:x:1000:1000::/home/kim:/bin/sh\n"),
    )


@pytest.fixture
def laid(tmp_path: Path) -> Laid:
    return Laid(tmp_path)


def test_a_good_machine_is_ok_throughout(laid: Laid) -> None:
    """Every check says ok and why it matters, and proposes no command."""
    for finding in laid.findings():
        assert (finding.name, finding.verdict) == (finding.name, Verdict.OK), finding
        assert finding.why and finding.seen and not finding.command


USERSPACE = answers("netctl probe", 0, '{"backend": "userspace"}')
GO = both(USERSPACE, lambda laid: laid.program("wireguard-go"))
NO_SANDBOX = "[browser]\nsandbox = false\ni_know_what_no_sandbox_means = true\n"
LISTENS = "0: 0:27DB 0:0000 0A 0:0 00:0 0 65534 0"
"""Port 10203, UID 65534."""
HELPER = "usr/lib/chromium/chrome-sandbox"
PASSWD = "w1101:x:1101:990::/nonexistent:/usr/sbin/nologin\nnetctl:x:995:990::/nonexistent:/usr/sbin/nologin\n"

BAD: dict[str, tuple[str, Change, str, str]] = {
    "settings not there": (
        "settings",
        lambda laid: (laid.root / "etc/fleet/fleet.toml").unlink(),
        "warning",
        "install -D",
    ),
    "UID taken": (
        "accounts",
        answers("getent passwd", 2, "kim:x:1102:1000::/home/kim:/bin/sh\n"),
        "error",
        "workers.first_uid",
    ),
    "name in another group": (
        "accounts",
        both(answers("getent passwd", 2, PASSWD.splitlines()[0]), answers("getent group", 0, "fleet:x:991:\n")),
        "error",
        "workers.first_uid",
    ),
    "netctl in another group": (
        "accounts",
        both(
            answers("getent passwd", 2, "netctl:x:995:100::/nonexistent:/usr/sbin/nologin\n"),
            answers("getent group", 0, "fleet:x:990:\n"),
        ),
        "error",
        "usermod --gid fleet netctl",
    ),
    "UID at work for nobody we know": (
        "accounts",
        lambda laid: laid.process(7, "redis", uid=1102),
        "error",
        "workers.first_uid",
    ),
    "UID at work for another fleet": (
        "accounts",
        both(
            answers("getent passwd", 2, PASSWD),
            answers("getent group", 0, "fleet:x:990:\n"),
            lambda laid: laid.of_fleet(7, "/elsewhere"),
        ),
        "error",
        "workers.first_uid",
    ),
    "worker with other UIDs": (
        "accounts",
        lambda laid: laid.write("etc/subuid", "w1102:100000:65536\n"),
        "error",
        "subuid",
    ),
    "no WireGuard": ("wireguard", USERSPACE, "error", "apt install wireguard-go"),
    "no tun": ("wireguard", GO, "error", "modprobe tun"),
    "module not loaded": (
        "wireguard",
        both(GO, tun, lambda laid: laid.write("lib/modules/6.1.0-test/kernel/net/wireguard.ko.xz")),
        "warning",
        "modprobe wireguard",
    ),
    "too many wireguard-go": (
        "wireguard",
        both(GO, tun, settings(SETTINGS.replace("count = 2", "count = 126"))),
        "error",
        "sysctl -w fs.inotify.max_user_instances=1024",
    ),
    "kernel wanted": (
        "wireguard",
        fails("netctl probe", MissingProgram("this kernel has no WireGuard", hint="modprobe wireguard")),
        "error",
        "modprobe wireguard",
    ),
    "no libnftables": (
        "nftables",
        lambda laid: (laid.root / "usr/lib/x86_64-linux-gnu/libnftables.so.1").unlink(),
        "error",
        "apt install",
    ),
    "no nft": (
        "nftables",
        answers("unshare --net", 127, err="unshare: failed to execute nft: No such"),
        "error",
        "apt",
    ),
    "no nf_tables": ("nftables", answers("unshare --net", err="Error: Operation not supported"), "error", "modprobe"),
    "no table with an owner": (
        "nftables",
        lambda laid: laid.refused.add(("unshare", network.OWNED)),
        "warning",
        "5.12",
    ),
    "strict for a tunnel": (
        "rp-filter",
        lambda laid: laid.filter("wg101", 1),
        "error",
        "sysctl -w",
    ),
    "Docker heard": (
        "docker",
        both(
            settings(SETTINGS.replace("count = 2", "count = 2\ndeny_netlink = false")),
            lambda laid: laid.process(9, "dockerd"),
        ),
        "warning",
        "deny_netlink = true",
    ),
    "sandbox off": ("sandbox", settings(f"{SETTINGS}{NO_SANDBOX}"), "warning", "browser.sandbox"),
    "Debian forbids": (
        "sandbox",
        lambda laid: laid.write("proc/sys/kernel/unprivileged_userns_clone", "0"),
        "error",
        "unprivileged_userns_clone=1",
    ),
    "none at all": (
        "sandbox",
        lambda laid: laid.write("proc/sys/user/max_user_namespaces", "0"),
        "error",
        "max_user_namespaces",
    ),
    "AppArmor forbids": (
        "sandbox",
        lambda laid: laid.write("proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
        "error",
        "apparmor_restrict",
    ),
    "container forbids": (
        "sandbox",
        answers("setpriv --reuid=65534", err="Operation not permitted"),
        "error",
        "sandbox",
    ),
    "helper without its bit": (
        "sandbox",
        both(lambda laid: laid.write(HELPER), answers("setpriv --reuid=65534", err="Operation not permitted")),
        "error",
        "chmod 4755",
    ),
    "versions apart": (
        "browser",
        fails("worker check", ConfigurationError("155 but 156", hint="install the ChromeDriver of version 156")),
        "error",
        "ChromeDriver of version 156",
    ),
    "a snap": ("browser", snap, "error", "Google Chrome's own package"),
    "a task with a mistake": (
        "task",
        fails("worker task", ConfigurationError("task.options.home: Field required", hint="edit it")),
        "error",
        "edit it",
    ),
    "an answer of another shape": ("browser", answers("worker check", 0, "Segmentation fault"), "error", "report this"),
    "no Korean font": ("fonts", answers("fc-list :lang=ko", 0), "warning", "fonts-noto-cjk"),
    "no emoji": ("fonts", answers("fc-list :charset=1f3a7", 0), "warning", "fonts-noto-color-emoji"),
    "no fc-list": ("fonts", answers("fc-list :lang=ko", 127), "warning", "fonts-noto-cjk"),
    "no /dev/shm": ("shared-memory", lambda laid: (laid.root / "dev/shm").rmdir(), "error", "mkdir"),
    "tmp above memory": (
        "shared-memory",
        settings(SETTINGS.replace("count = 2", "count = 2\ntmp_mebibytes = 4096")),
        "warning",
        "tmp_mebibytes",
    ),
    "too many browsers": (
        "memory",
        settings(SETTINGS.replace("count = 2", "count = 90")),
        "warning",
        "workers.count = 15",
    ),
    "nr_open too low": ("open-files", lambda laid: laid.write("proc/sys/fs/nr_open", "4096"), "error", "fs.nr_open="),
    "container's limit": (
        "open-files",
        both(
            lambda laid: laid.write("proc/self/limits", "Max open files            1024      4096     files\n"),
            lambda laid: laid.write("proc/self/status", "CapEff:\t00000000a80425fb\n"),
        ),
        "error",
        "--ulimit nofile",
    ),
    "file-max too low": (
        "open-files",
        lambda laid: laid.write("proc/sys/fs/file-max", "10000"),
        "warning",
        "fs.file-max=",
    ),
    "a login that takes all along": (
        "logout",
        login("yes", exclude="root"),
        "warning",
        "systemd-run --scope fleet up",
    ),
    "no resolver": ("resolved", lambda laid: laid.write("etc/resolv.conf", ""), "warning", "stub-resolv.conf"),
    "clock alone": ("clock", lambda laid: setattr(laid, "synchronised", False), "warning", "chrony"),
    "another fleet": (
        "second-fleet",
        fails("netctl alone", TryLater("the fleet in /srv/b is at work here", hint="FLEET_ROOT=/srv/b fleet down")),
        "error",
        "FLEET_ROOT=/srv/b fleet down",
    ),
    "ports that are given to anybody": (
        "browser-ports",
        both(
            lambda laid: laid.write("proc/sys/net/ipv4/ip_local_port_range", "1024\t65535\n"),
            lambda laid: laid.write("proc/sys/net/ipv4/ip_local_reserved_ports", "8080,10202-10204\n"),
        ),
        "error",
        "ip_local_reserved_ports=8080,10202-10204,10202-10205",
    ),
    "a port that is somebody's": (
        "browser-ports",
        lambda laid: laid.write("proc/net/tcp6", f"sl ...\n{LISTENS}\n{LISTENS.replace('27DB', '27DA')}\n"),
        "error",
        "ss -ltnp",
    ),
    "no program at the groups": ("browser-ports", lambda laid: setattr(laid, "no_bpf", True), "warning", "netns"),
    "set-UID programs that count": (
        "programs",
        both(lambda laid: laid.write("usr/bin/su").chmod(0o4755), answers("setpriv --reuid=65534", 1)),
        "warning",
        "user namespaces",
    ),
    "foreign object": (
        "foreign-objects",
        fails("netctl plan", ForeignObject("wg101 is not ours", hint="ip link show wg101")),
        "error",
        "ip link show wg101",
    ),
    "left over": (
        "left-over",
        answers("netctl cleanup", 0, '["ip rule delete priority 10101"]'),
        "warning",
        "netctl cleanup",
    ),
    "no look at left-overs": (
        "left-over",
        answers("netctl cleanup", 70, err="netctl: refused"),
        "error",
        "netctl cleanup",
    ),
}


def test_settings_may_be_roots_alone(laid: Laid) -> None:
    """netctl and the workers read the snapshot of the last start, not fleet.toml, so that may be root's only."""
    (laid.root / "etc/fleet/fleet.toml").chmod(0o600)
    assert laid.finding("settings").verdict is Verdict.OK


@pytest.mark.parametrize("what", BAD)
def test_a_bad_machine_is_told_with_what_mends_it(laid: Laid, what: str) -> None:
    """The verdict, and the command that repairs it; no other finding changes."""
    name, change, verdict, command = BAD[what]
    before = {finding.name: finding.verdict for finding in laid.findings()}
    case = laid.case  # settings as they were read, for those that break the file
    change(laid)
    if (laid.root / "etc/fleet/fleet.toml").exists():
        case = laid.case
    check = next(one for one in examine.CHECKS if one.name == name)
    found = check.on(case)
    assert before[name] is Verdict.OK
    assert (found.verdict.value, command in found.command) == (verdict, True), found


GOOD: dict[str, tuple[str, Change, str]] = {
    "accounts made": (
        "accounts",
        both(answers("getent passwd", 2, PASSWD), answers("getent group", 0, "fleet:x:990:\n")),
        "fleet up makes 1 accounts",
    ),
    "a person after the last worker": (
        "accounts",
        answers("getent passwd", 2, "kim:x:1105:1105::/home/kim:/bin/bash\n"),
        "1105 is kim's: from 1101 on there is room for 4",
    ),
    "workers of a larger fleet before": (
        "accounts",
        both(
            answers("getent passwd", 2, "".join(f"w{uid}:x:{uid}:990::/:/bin/false\n" for uid in range(1101, 1110))),
            answers("getent group", 0, "fleet:x:990:\n"),
        ),
        "UIDs 1101 to 1102 are ours",
    ),
    "own worker at work": (
        "accounts",
        both(
            answers("getent passwd", 2, PASSWD),
            answers("getent group", 0, "fleet:x:990:\n"),
            lambda laid: laid.of_fleet(7, str(laid.root)),
            lambda laid: laid.process(8, "chromium", uid=1101),
        ),
        "ours",
    ),
    "worker that says it is another fleet's": (
        "accounts",
        both(
            answers("getent passwd", 2, PASSWD),
            answers("getent group", 0, "fleet:x:990:\n"),
            lambda laid: laid.process(7, "python", uid=1101, fleet_root="/elsewhere"),
        ),
        "ours",
    ),
    "UID at work in a container": (
        "accounts",
        lambda laid: laid.process(7, "redis", uid=1102, network="net:[2]"),
        "fleet up makes",
    ),
    "wireguard-go": ("wireguard", both(GO, tun), "one process a worker"),
    "a login that leaves all": (
        "logout",
        login("no"),
        "does not end",
    ),
    "a login of somebody spared": (
        "logout",
        login("yes", exclude="root kim"),
        "does not end",
    ),
    "a login of nobody named": (
        "logout",
        login("yes", only="lee"),
        "does not end",
    ),
    "resolved": ("resolved", lambda laid: laid.process(3, "systemd-resolve"), "the host asks 192.0.2.53"),
    "resolved by nsswitch.conf alone": (
        "resolved",
        both(
            lambda laid: laid.process(3, "systemd-resolve"),
            lambda laid: (laid.root / "etc/resolv.conf").unlink(),
            lambda laid: laid.write("etc/nsswitch.conf", "passwd: files\nhosts: files resolve [!UNAVAIL=return] dns\n"),
        ),
        "the host asks it",
    ),
    "Docker unheard": ("docker", lambda laid: (laid.root / "sys/class/net/docker0").mkdir(parents=True), "docker0"),
    "set-UID helper": (
        "sandbox",
        both(
            lambda laid: laid.write(HELPER).chmod(0o4755),
            lambda laid: laid.write("proc/sys/kernel/unprivileged_userns_clone", "0"),
        ),
        "chrome-sandbox",
    ),
    "AppArmor profile": (
        "sandbox",
        both(
            lambda laid: laid.write("proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
            lambda laid: laid.write("etc/apparmor.d/chrome"),
        ),
        "AppArmor",
    ),
    "the fleet runs": (
        "left-over",
        both(lambda laid: setattr(laid, "running", True), answers("netctl cleanup", 78)),
        "in use",
    ),
    "a fleet in a namespace of its own": (
        "second-fleet",
        lambda laid: laid.process(9, "python", network="net:[2]", fleet_root="/srv/b"),
        "/srv/b",
    ),
    "set-UID programs that do not count": (
        "programs",
        lambda laid: laid.write("usr/bin/su").chmod(0o4755),
        "1 programs give their caller another UID or a capability: /usr/bin/su; none of that takes effect",
    ),
    "the fleet fills memory": ("memory", lambda laid: setattr(laid, "running", True), "in all"),
}


@pytest.mark.parametrize("what", GOOD)
def test_what_only_looks_bad_is_ok(laid: Laid, what: str) -> None:
    """A foreign container, the fleet's own processes, another kind of sandbox: ok, with the reason."""
    name, change, text = GOOD[what]
    change(laid)
    found = laid.finding(name)
    assert (found.verdict, text in found.seen) == (Verdict.OK, True), found


def test_filters_are_told_as_they_work(laid: Laid) -> None:
    """The effective value of an interface is the larger of `all` and its own; the fleet's interfaces do not count."""
    for interface, value in (("all", 1), ("default", 0), ("lo", 0), ("eth0", 2)):
        laid.filter(interface, value)
    found = laid.finding("rp-filter")
    assert (
        found.verdict is Verdict.OK and "eth0 2, lo 1" in found.seen and "gives its value to default, lo;" in found.seen
    )


@pytest.mark.parametrize(("size", "verdict"), [("8m", Verdict.ERROR), ("64m", Verdict.WARNING), ("256m", Verdict.OK)])
def test_room_where_the_fleet_writes(root: None, laid: Laid, size: str, verdict: Verdict) -> None:
    """The fullest disk counts, and its folder is named."""
    place = laid.write("var/lib/fleet/here").parent
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
    try:
        found = laid.finding("room")
    finally:
        subprocess.run(["umount", str(place)], check=True)
    assert found.verdict is verdict and f"MiB are free for {place}" in found.seen, found


def test_an_interface_that_has_just_gone_is_no_trouble(laid: Laid) -> None:
    """If an interface disappears between two reads, as with containers, the others are still reported."""
    laid.filter("eth0", 2)
    (laid.root / "proc/sys/net/ipv4/conf/veth0/rp_filter").mkdir(parents=True)  # cannot be read either
    found = laid.finding("rp-filter")
    assert (found.verdict, "eth0 2" in found.seen, "veth0" in found.seen) == (Verdict.OK, True, False)


def test_who_runs_the_browser_of_before(laid: Laid) -> None:
    """A browser whose file was replaced is reported with its worker; another program's replaced file is not."""
    for pid, name, uid in ((9, "chromium", 1101), (10, "chromium", 999), (11, "python3", 1102)):
        laid.process(pid, name, uid=uid)
        (laid.root / f"proc/{pid}/exe").symlink_to(f"/usr/lib/{name} (deleted)")
    assert laid.finding("browser").seen.endswith("fits; w1101 run the previous one until their loops end")


def test_kill_switch_is_tried_where_nobody_is(laid: Laid) -> None:
    """The transaction is tried by nft in a separate network namespace."""
    laid.finding("nftables")
    assert laid.asked[0] == "unshare --net nft -f -"


def test_a_start_says_what_will_fail(laid: Laid, capsys: pytest.CaptureFixture[str]) -> None:
    """`fleet up` on a machine without a sandbox for Chrome reports that and the remedy; on a good one nothing."""
    case = laid.case
    prepare.forewarn(case.fleet, case.installation, case.machine)
    assert capsys.readouterr().err == ""
    laid.write("proc/sys/user/max_user_namespaces", "0")
    prepare.forewarn(case.fleet, case.installation, case.machine)
    said = capsys.readouterr().err
    assert "sandbox" in said and "sysctl -w user.max_user_namespaces" in said
    assert set(examine.AT_START) <= set(examine.CHECKS)


def test_a_start_without_the_sandbox_is_loud(laid: Laid, capsys: pytest.CaptureFixture[str]) -> None:
    """`fleet up` warns each time if Chrome's sandbox is off in the settings, and says what to do."""
    case = laid.case
    browser = case.fleet.browser.model_copy(update={"sandbox": False})
    prepare.forewarn(case.fleet.model_copy(update={"browser": browser}), case.installation, case.machine)
    said = capsys.readouterr().err
    assert "WARNING: browser.sandbox is false" in said and "what to do" in said
