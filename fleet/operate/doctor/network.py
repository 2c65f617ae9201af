"""What tunnels and kill switch need: WireGuard, nftables, namespaces, path filters; and programs that interfere."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from fleet.backends import BACKENDS, Backend
from fleet.machine import spaces
from fleet.operate.doctor.check import Finding, check, error, ok, some, warning
from fleet.operate.doctor.machine import NOT_THERE, Answer, Case, Machine

_IPV4 = "/proc/sys/net/ipv4"
FILTERS = f"{_IPV4}/conf"
_RESERVED = f"{_IPV4}/ip_local_reserved_ports"
_NSSWITCH = "/etc/nsswitch.conf"
_LISTEN = "0A"
"""TCP_LISTEN (net/tcp_states.h)."""
_LIBRARIES = ("/usr/lib", "/usr/lib/*-linux-gnu*", "/usr/lib64", "/usr/local/lib", "/lib/*-linux-gnu*")
_INSTALL_NFT = "apt install nftables libnftables1"
TRANSACTION = """
table inet fleet_doctor {
    set pace { type uid; flags dynamic; size 9999; }
    set open { type uid . ifname; elements = { 1101 . "wg101" } }
    map translation { type ifname : ipv4_addr; elements = { "wg101" : 198.18.0.2 } }
    map zones { typeof oifname : ct zone; elements = { "wg101" : 12929 } }
    chain zone_out { type filter hook output priority -300; policy accept; ct zone set oifname map @zones; }
    chain output {
        type filter hook output priority 0; policy accept;
        meta nfproto ipv4 meta skuid . oifname @open counter accept
        fib saddr type local counter reject with tcp reset
        ct state new ct status ! confirmed add @pace { meta skuid limit rate over 500/second burst 5000 packets } drop
        meta skuid 1101 counter drop
    }
    chain translate {
        type nat hook postrouting priority 100; policy accept;
        meta nfproto ipv4 snat ip to oifname map @translation
    }
    chain input {
        type filter hook input priority 0; policy accept;
        iifname "wg101" ct state { established, related } accept
    }
}
"""
"""All features that the kill switch uses: sets of UIDs, NAT by a map, conntrack zones, resets, rate limits."""

_SPARE_INSTANCES = 3
OWNED = "table inet fleet_doctor { flags owner; }"


@check("wireguard", "without it there is no tunnel")
def wireguard(case: Case) -> Finding:
    """The kernel's WireGuard, or a backend's program and what it needs; netctl's probe decides which."""
    answer = case.ours("netctl", "probe", "--json", "--backend", case.fleet.wireguard.backend)
    backend = BACKENDS.get(_field(answer, "backend"))
    if backend is None:
        return error(f"netctl finds no WireGuard: {answer.words}", answer.error.hint or "modprobe wireguard")
    return _programs(case, backend) if backend.program else ok("the kernel's")


def _programs(case: Case, backend: Backend) -> Finding:
    """Whether one process of BACKEND's program for each worker, all under one user, has what it needs."""
    machine, name, device = case.machine, backend.program[0], backend.device
    if not machine.has_program(name):
        return error(
            f"the kernel has no WireGuard and {name} is not installed", f"modprobe wireguard, or: apt install {name}"
        )
    if device is not None and not machine.at(device).is_char_device():
        return error(
            f"{name} is installed, but there is no {device}",
            f"modprobe {device.name}, or give this container the device",
        )
    allowed, count = machine.number("/proc/sys/fs/inotify/max_user_instances"), case.fleet.workers.count
    needed = count * backend.inotify_instances
    if allowed and needed and allowed < needed + _SPARE_INSTANCES:
        return error(
            f"{count} processes of {name} need {needed} inotify instances; this kernel allows a user {allowed}",
            f"sysctl -w fs.inotify.max_user_instances={max(1024, 2 * needed)}",
        )
    release = machine.text("/proc/sys/kernel/osrelease")
    if case.fleet.wireguard.backend == "auto" and machine.glob(f"/lib/modules/{release}/**/wireguard.ko*"):
        return warning(f"{name}, though this kernel has a module for it", "modprobe wireguard")
    return ok(f"{name}, one process a worker (kernel {release or '?'} has no WireGuard, or the setting excludes it)")


@check("nftables", "the kill switch and the address translation are an nftables table")
def nftables(case: Case) -> Finding:
    """The library that netctl uses, and a table like the kill switch's, made in a temporary network namespace."""
    if not any(case.machine.glob(f"{folder}/libnftables.so.1") for folder in _LIBRARIES):
        return error("libnftables.so.1 is not there", _INSTALL_NFT)
    answer = case.ask("unshare", "--net", "nft", "-f", "-", given=TRANSACTION)
    if answer.code == 0:
        return _with_owner(case)
    if answer.code == NOT_THERE or "failed to execute nft" in answer.err:
        return error("nft is not there", _INSTALL_NFT)
    return error(
        f"the kernel refuses a table like netctl's: {answer.words}",
        "modprobe nf_tables nft_chain_nat nft_ct, or a newer kernel",
    )


def _with_owner(case: Case) -> Finding:
    """Whether tables can have an owner: `nft flush ruleset` skips such a table (NFT_TABLE_F_OWNER, Linux 5.12)."""
    version = case.ask("nft", "--version").out.strip() or "nftables"
    if case.ask("unshare", "--net", "nft", "-f", "-", given=OWNED).code:
        return warning(
            f"{version} works, but without tables that have an owner: a flush of nftables opens the kill switch's "
            "last layer until netctl has restored it",
            "a kernel of 5.12 and an nft of 1.0 or later",
        )
    return ok(version)


@check("namespaces", "with isolation netns each worker has its own named network namespace")
def namespaces(case: Case) -> Finding:
    """Whether workers can have named network namespaces, and whether names of former workers are left."""
    if case.fleet.isolation != "netns":
        return ok("not needed: isolation is uid")
    folder = case.paths.spaces
    answer = case.ask(*spaces.NAMED)
    if answer.code:
        return error(
            f"no named network namespace can be made on this machine: {answer.words}",
            'set isolation = "uid" in fleet.toml, or give this container CAP_SYS_ADMIN',
        )
    if not _can_be_written(folder):
        return error(
            f"{folder} is not writable, so no names can be made in it", f"ls -ld {folder}; findmnt -T {folder}"
        )
    unknown = sorted(spaces.names(folder) - {worker.space for worker in case.fleet.members})
    if unknown:
        return warning(
            f"{some(unknown)}: their workers are no longer in fleet.toml",
            "fleet down, then fleet up" if case.running else "fleet up, or: netctl cleanup",
        )
    return ok(f"one for each worker, named in {folder}")


def _can_be_written(folder: Path) -> bool:
    """Whether FOLDER is writable, or can be made."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return there.is_dir() and os.access(there, os.W_OK)


@check("browser-ports", "a browser cannot start while another program has one of its two ports")
def browser_ports(case: Case) -> Finding:
    """Whether no other user has taken them, or can: by bind(2), or as an ephemeral port from the kernel."""
    if case.fleet.isolation == "netns":
        return ok("not needed: each worker has all ports of a namespace of its own")
    owners = {port: worker.uid for worker in case.fleet.members for port in worker.browser_ports}
    first, last = min(owners), max(owners)
    least, most = (int(one) for one in case.machine.text(f"{_IPV4}/ip_local_port_range").split() or ("32768", "60999"))
    if open_ports := {*owners} & {*range(least, most + 1)} - _numbers(case.machine.text(_RESERVED)):
        words = f"{len(open_ports)} of the ports {first} to {last} are ephemeral ports here ({least} to {most})"
        before = f"{there}," if (there := case.machine.text(_RESERVED)) else ""
        return error(words, f"sysctl -w net.ipv4.ip_local_reserved_ports={before}{first}-{last}")
    if taken := sorted(_taken(case.machine, owners)):
        return error(f"another user listens: {some(taken)}", "ss -ltnp; end it, or set another workers.first_uid")
    try:
        for one in case.machine.keep_ports(case.fleet.members):
            os.close(one)
    except OSError as reason:
        return warning(
            f"a user who binds to one before the browser keeps it from starting: {reason.strerror}",
            'isolation = "netns", or Linux 5.14 with cgroup v2 and, in a container, CAP_SYS_ADMIN or CAP_BPF',
        )
    return ok(f"{first} to {last} are reserved for their owners while the fleet runs")


def _numbers(listed: str) -> set[int]:
    """The ports of a list like 1-3,7 (ip-sysctl.rst)."""
    bounds = [(part.split("-")[0], part.split("-")[-1]) for part in listed.split(",") if part]
    return {port for low, high in bounds for port in range(int(low), int(high) + 1)}


def _taken(machine: Machine, owners: Mapping[int, int]) -> Iterator[str]:
    """The listeners on ports of OWNERS that have another UID, in words."""
    for name in ("tcp", "tcp6"):
        for words in (line.split() for line in machine.text(f"/proc/net/{name}").splitlines()[1:]):
            port, uid = int(words[1].rpartition(":")[2], 16), int(words[7])  # proc_pid_net(5)
            if words[3] == _LISTEN and owners.get(port, uid) != uid:
                yield f"UID {uid} at {port}"


@check("rp-filter", "tunnels have no address, so the kernel's reverse path filter would drop every answer")
def reverse_path_filters(case: Case) -> Finding:
    """The value in effect for each interface, max(all, its own), and what netctl will change."""
    if case.fleet.isolation == "netns":
        return ok("not needed: tunnels are in namespaces of their own, and this host's filters stay as they are")
    every, values = filters(case)
    ours = set(case.fleet.interfaces)
    effective = {name: max(every, value) for name, value in values.items() if name != "default"}
    text = ", ".join(f"{name} {value}" for name, value in sorted(effective.items()) if name not in ours)
    held = sorted(name for name in ours & set(effective) if effective[name])
    if held:
        return error(
            f"answers through {', '.join(held)} are dropped: all is {every}",
            "sysctl -w net.ipv4.conf.all.rp_filter=0, and find out who sets it (grep -r rp_filter /etc/sysctl*)",
        )
    if every:
        raised = sorted(name for name, value in values.items() if value < every and name not in ours)
        return ok(
            f"all is {every}; effective: {text}. While the fleet runs netctl sets all to 0, and gives its value to "
            f"{', '.join(raised) or 'no interface'}; `fleet down` restores what was there"
        )
    return ok(f"all is 0; effective: {text or 'no interface'}")


def filters(case: Case) -> tuple[int, dict[str, int]]:
    """rp_filter of `all`, and by name that of every interface and of `default`."""
    names = [path.parent.name for path in case.machine.glob(f"{FILTERS}/*/rp_filter")]
    values = {name: case.machine.text(f"{FILTERS}/{name}/rp_filter") for name in names}  # one may have gone since
    numbers = {name: int(value) for name, value in values.items() if value.isdigit()}
    return numbers.pop("all", 0), numbers


@check("resolved", "workers must not ask the host's resolver, and netctl must, for servers that keys name")
def resolved(case: Case) -> Finding:
    """Which resolver the host uses, if any; the launcher and the kill switch keep workers from it."""
    servers = re.findall(r"^nameserver\s+(\S+)", case.machine.text("/etc/resolv.conf"), re.MULTILINE)
    runs = any(process.name == "systemd-resolve" for process in case.processes)
    if not servers and not (runs and re.search(r"^hosts:.*\bresolve\b", case.machine.text(_NSSWITCH), re.MULTILINE)):
        return warning(
            "/etc/resolv.conf names no resolver, so this host may find no server that a key names; workers only ask "
            "through their tunnels",
            "ls -l /etc/resolv.conf; for systemd-resolved it is a link to /run/systemd/resolve/stub-resolv.conf",
        )
    if runs or "127.0.0.53" in servers:
        return ok(
            f"systemd-resolved runs, the host asks {', '.join(servers) or 'it'}; workers have a resolv.conf and an "
            "nsswitch.conf of their own, and port 53 is open to them only through their tunnels"
        )
    return ok(f"not here; the host asks {', '.join(servers)}, workers only ask through their tunnels")


@check(
    "docker",
    "each start or end of a container is an address event, on which Chrome aborts its requests (ERR_NETWORK_CHANGED)",
)
def docker(case: Case) -> Finding:
    """Whether Docker is here, and Chrome can hear the address events of its containers over netlink."""
    machine = case.machine
    links = [path.name for path in machine.glob("/sys/class/net/*")]
    bridges = [name for name in links if re.fullmatch(r"docker\d+|br-[0-9a-f]{12}", name)]
    runs = any(process.name == "dockerd" for process in case.processes)
    if not bridges and not runs and not machine.at("/run/docker.sock").exists():
        return ok("not here")
    if case.fleet.isolation == "netns":
        return ok("Docker is here; its address events, rules and forwarding do not reach the workers' namespaces")
    where = f"Docker is here ({some(bridges) or 'no bridge yet'})"
    if not case.fleet.workers.deny_netlink:
        return warning(
            f"{where}, and workers.deny_netlink is off: every container that starts or ends aborts page loads",
            "set workers.deny_netlink = true in fleet.toml",
        )
    return ok(
        f"{where}; workers cannot hear its address events (deny_netlink), and none of their packets is forwarded, so "
        "its FORWARD policy does not matter"
    )


def _field(answer: Answer, name: str) -> str:
    """One field of a program's JSON answer; empty when it failed."""
    try:
        return str(json.loads(answer.out)[name]) if answer.code == 0 else ""
    except (ValueError, KeyError, TypeError):
        return ""
