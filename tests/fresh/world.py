"""A provider, a site and an uplink of the fresh tier's own, in two network namespaces; nothing of the lab is in it.

fh  the new machine, 198.51.100.10 ── fw  198.51.100.1, the site 203.0.113.80, and a VPN server whose two keys come out
                                          at 203.0.113.11 and 203.0.113.12; its resolver is 10.64.0.1
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fleet.machine import spaces
from lab.site import certificate
from lab.topology import SITE_NAME, brought_up
from lab.vpn import Key
from lab.wires import NAMESPACES, batch, tell
from tests.waiting import until

HOST, WORLD, DEVICE = "fh", "fw", "fwg"
SITE, RESOLVER, ROUTER = "203.0.113.80", "10.64.0.1", "198.51.100.1"
CHECKOUT = Path(__file__).resolve().parents[2]
CONF = """[Interface]
PrivateKey = {private}
Address = {address}/32
DNS = 10.64.0.1, fd00::1

[Peer]
PublicKey = {server}
AllowedIPs = 0.0.0.0/0, ::/0
Endpoint = 198.51.100.1:51820
"""


@contextmanager
def standing(folder: Path) -> Iterator[list[str]]:
    """The world stands; the texts of the provider's client files. FOLDER gets site.crt, the site's authority."""
    with ExitStack() as stack:
        for name in (HOST, WORLD):
            spaces.make(NAMESPACES / name)
            stack.callback(spaces.remove, NAMESPACES / name)
        wire = f"link add eth0 type veth peer name eth0 netns {HOST}"
        batch(WORLD, [wire, *brought_up("eth0", [f"{ROUTER}/24"]), f"address add {SITE}/32 dev lo"])
        batch(HOST, [*brought_up("eth0", ["198.51.100.10/24"]), f"route add default via {ROUTER}"])
        certificate.write(folder / "site.crt", folder, ())
        site = (sys.executable, "-m", "tests.programs.one_page", folder / "cert.pem", folder / "key.pem")
        _serve(stack, *site, f"{SITE}:443")
        _serve(stack, "wireguard-go", "-f", DEVICE)
        until("the device", lambda: f" {DEVICE}: " in tell(WORLD, ("ip", "link")))
        # Answers to an exit are for who is translated to it.
        batch(WORLD, [*brought_up(DEVICE, [f"{RESOLVER}/24"]), f"route add 203.0.113.0/24 dev {DEVICE}"])
        names = f"--address=/{SITE_NAME}/{SITE}"
        listens = ("--bind-interfaces", f"--listen-address={RESOLVER},{ROUTER}", "--pid-file=")
        _serve(stack, "dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", names, *listens)
        yield _keys()


def _serve(stack: ExitStack, *argv: str | Path) -> None:
    words = ["nsenter", f"--net={NAMESPACES / WORLD}", *argv]
    process = subprocess.Popen(words, cwd=CHECKOUT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.kill)


def _keys() -> list[str]:
    """Two keys that the server knows, each with an exit of its own."""
    own, made = Key.fresh(), []
    peers = f"[Interface]\nListenPort = 51820\nPrivateKey = {Key.text(own.private)}\n"
    exits = "add table ip t; add chain ip t input { type nat hook input priority 100; }\n"
    for number in (11, 12):
        key, address = Key.fresh(), f"10.64.0.{number}"
        peers += f"[Peer]\nPublicKey = {Key.text(key.public)}\nAllowedIPs = {address}/32\n"
        exits += f"add rule ip t input ip saddr {address} ip daddr {SITE} snat to 203.0.113.{number}\n"
        made.append(CONF.format(private=Key.text(key.private), address=address, server=Key.text(own.public)))
    tell(WORLD, ("wg", "setconf", DEVICE, "/dev/stdin"), peers)
    tell(WORLD, ("nft", "-f", "-"), exits)
    return made
