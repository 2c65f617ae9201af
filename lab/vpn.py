"""The lab's VPN servers: wireguard-go with source NAT to the exit address, and their clients' files.

wireguard-go is configured over its own socket (https://www.wireguard.com/xplatform/): keys in hex,
one `key=value` a line, an empty line at the end, `errno=0` back.
"""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fleet.backends import wireguard_go
from fleet.errors import FleetError, MissingProgram
from fleet.imports import bare
from lab.topology import TUNNEL_RESOLVER, TUNNELS, TUNNELS_V6, WIREGUARD_PORT, Server

with bare("pyroute2"):
    from pyroute2.iproute import IPRoute

_IFA_F_NODAD = 0x02


@dataclass(frozen=True, slots=True)
class Key:
    """A WireGuard key pair."""

    private: bytes
    public: bytes

    @classmethod
    def fresh(cls) -> Key:
        made = X25519PrivateKey.generate()
        return cls(made.private_bytes_raw(), made.public_key().public_bytes_raw())

    @staticmethod
    def text(key: bytes) -> str:
        """As configuration files have it."""
        return base64.b64encode(key).decode()


def command(server: Server) -> list[str]:
    """wireguard-go in the foreground; its device and socket are named after the interface."""
    program = shutil.which(wireguard_go(), path="/usr/local/bin:/usr/bin:/bin")
    if program is None:
        raise MissingProgram("wireguard-go is not there", hint="run: sudo bin/setup")
    # nice: a real server does not share its processor with the browsers.
    return ["nice", "--adjustment=-10", program, "-f", server.interface]


def ask(path: Path, *lines: str) -> None:
    """Send one request to wireguard-go's socket at PATH; raises OSError, or FleetError with its errno."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(str(path))
        connection.sendall("".join(f"{line}\n" for line in (*lines, "")).encode())
        answer = connection.recv(4096).decode()
    if answer.strip() != "errno=0":
        raise FleetError(f"{path.name}: wireguard-go answers {answer.strip()!r}")


def answers(path: Path) -> bool:
    """Whether wireguard-go listens at PATH: the file is there a moment before anybody answers on it."""
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(path)) == 0


def configure(server: Server, socket_path: Path, own: Key, clients: list[Key]) -> None:
    """Give the running device its key and its peers."""
    lines = ["set=1", f"private_key={own.private.hex()}", f"listen_port={WIREGUARD_PORT}", "replace_peers=true"]
    for number, client in enumerate(clients, start=1):
        lines += [f"public_key={client.public.hex()}", f"allowed_ip={server.client(number)}/32"]
        lines.append(f"allowed_ip={server.client_v6(number)}/128")
    ask(socket_path, *lines)


def bring_up(server: Server) -> None:
    """Addresses, the way out and source NAT; call it inside the server's namespace."""
    # No link-local address.
    Path("/proc/sys/net/ipv6/conf", server.interface, "addr_gen_mode").write_text("1")
    with IPRoute() as kernel:
        (index,) = kernel.link_lookup(ifname=server.interface)
        kernel.addr("add", index=index, address=str(server.network[1]), prefixlen=24)
        kernel.addr("add", index=index, address=str(server.network_v6[1]), prefixlen=64, flags=_IFA_F_NODAD)
        kernel.addr("add", index=1, address=str(TUNNEL_RESOLVER), prefixlen=32)
        kernel.link("set", index=index, state="up")
    document = json.dumps({"nftables": _source_nat(server)})
    done = subprocess.run(["nft", "-j", "-f", "-"], input=document, text=True, check=False, capture_output=True)
    if done.returncode != 0:
        raise FleetError(f"nft refused the source NAT of {server.host}: {done.stderr.strip()}")


def _source_nat(server: Server) -> list[dict[str, object]]:
    return [*_one_family("ip", TUNNELS, str(server.address)), *_one_family("ip6", TUNNELS_V6, str(server.address_v6))]


def _one_family(family: str, tunnels: IPv4Network | IPv6Network, exit_address: str) -> list[dict[str, object]]:
    chain = {"family": family, "table": "exit", "name": "postrouting"}
    inside = {
        "op": "==",
        "left": {"payload": {"protocol": family, "field": "saddr"}},
        "right": {"prefix": {"addr": str(tunnels.network_address), "len": tunnels.prefixlen}},
    }
    outward = {"op": "==", "left": {"meta": {"key": "oifname"}}, "right": "eth0"}
    rule = [{"match": inside}, {"match": outward}, {"snat": {"addr": exit_address}}]
    hook = {"type": "nat", "hook": "postrouting", "prio": 100, "policy": "accept"}
    return [
        {"add": {"table": {"family": family, "name": "exit"}}},
        {"add": {"chain": {**chain, **hook}}},
        {"add": {"rule": {"family": family, "table": "exit", "chain": "postrouting", "expr": rule}}},
    ]


def write_client(folder: Path, server: Server, number: int, own: Key, client: Key) -> Path:
    """The configuration file of one client, as a VPN provider would hand it out; mode 0600."""
    text = f"""# ExitAddress = {server.address}
[Interface]
PrivateKey = {Key.text(client.private)}
Address = {server.client(number)}/32
DNS = {TUNNEL_RESOLVER}

[Peer]
PublicKey = {Key.text(own.public)}
AllowedIPs = 0.0.0.0/0
Endpoint = {server.address}:{WIREGUARD_PORT}
PersistentKeepalive = 25
"""
    path = folder / f"{server.host}-{number:02d}.conf"
    path.touch(mode=0o600)
    path.write_text(with_ipv6(text, server, number) if server.ipv6 else text)
    return path


def with_ipv6(text: str, server: Server, number: int) -> str:
    """TEXT, the file of client NUMBER, as a provider hands it out who carries IPv6 too."""
    text = text.replace("[Interface]", f"# ExitAddress = {server.address_v6}\n[Interface]")
    text = text.replace("/32\n", f"/32, {server.client_v6(number)}/128\n")
    return text.replace("0.0.0.0/0", "0.0.0.0/0, ::/0")
