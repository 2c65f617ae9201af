"""The lab's VPN servers: wireguard-go with source NAT to the exit address, and their clients' files.

wireguard-go is configured over its own socket (https://www.wireguard.com/xplatform/): keys in hex,
one `key=value` a line, an empty line at the end, `errno=0` back.
"""

from __future__ import annotations

import base64
import socket
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fleet.backends import wireguard_go
from fleet.errors import FleetError
from lab import wires
from lab.topology import TUNNEL_RESOLVER, TUNNELS, TUNNELS_V6, WIREGUARD_PORT, Server, brought_up

_NAT = """table {0} exit {{
    chain postrouting {{
        type nat hook postrouting priority 100;
        {0} saddr {1} oifname eth0 snat to {2};
    }}
}}
"""


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
        """The form of configuration files."""
        return base64.b64encode(key).decode()


def command(server: Server) -> list[str]:
    """wireguard-go in the foreground; its device and socket are named after the interface."""
    # nice: a real server does not share its processor with the browsers.
    return ["nice", "--adjustment=-10", wires.program(wireguard_go()), "-f", server.interface]


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
    """Whether wireguard-go answers at PATH: the file exists a moment before that."""
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(path)) == 0


def configure(server: Server, socket_path: Path, own: Key, clients: list[Key]) -> None:
    """Give the running device its key and its peers."""
    lines = ["set=1", f"private_key={own.private.hex()}", f"listen_port={WIREGUARD_PORT}", "replace_peers=true"]
    for number, client in enumerate(clients, start=1):
        lines += [f"public_key={client.public.hex()}", f"allowed_ip={server.client(number)}/32"]
        lines.append(f"allowed_ip={server.client_v6(number)}/128")
    ask(socket_path, *lines)


def bring_up(server: Server, namespace: str) -> None:
    """Set addresses, the route out and source NAT. Raises FleetError."""
    tunnels = brought_up(server.interface, (f"{server.network[1]}/24", f"{server.network_v6[1]}/64"))
    no_link_local = f"link set {server.interface} addrgenmode none"
    wires.batch(namespace, [no_link_local, *tunnels, f"address add {TUNNEL_RESOLVER}/32 dev lo"])
    tables = _NAT.format("ip", TUNNELS, server.address), _NAT.format("ip6", TUNNELS_V6, server.address_v6)
    wires.tell(namespace, ("nft", "-f", "-"), "".join(tables))


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
    """TEXT, the file of client NUMBER, as a provider with IPv6 hands it out."""
    text = text.replace("[Interface]", f"# ExitAddress = {server.address_v6}\n[Interface]")
    text = text.replace("/32\n", f"/32, {server.client_v6(number)}/128\n")
    return text.replace("0.0.0.0/0", "0.0.0.0/0, ::/0")
