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

from lab.site import certificate
from lab.topology import SITE_NAME
from tests.waiting import until

HOST, WORLD, DEVICE = "fh", "fw", "fwg"
SITE, RESOLVER, ROUTER = "203.0.113.80", "10.64.0.1", "198.51.100.1"
CHECKOUT = Path(__file__).resolve().parents[2]
LINKS = f"""
link add eth0 netns {HOST} type veth peer name eth0 netns {WORLD}
-n {HOST} address add 198.51.100.10/24 dev eth0
-n {HOST} link set eth0 up
-n {HOST} link set lo up
-n {HOST} route add default via {ROUTER}
-n {WORLD} address add {ROUTER}/24 dev eth0
-n {WORLD} address add {SITE}/32 dev lo
-n {WORLD} link set lo up
-n {WORLD} link set eth0 up
"""
NAT = "add table ip t; add chain ip t input { type nat hook input priority 100; }"
CONF = """[Interface]
PrivateKey = {private}
Address = {address}/32
DNS = 10.64.0.1, fd00::1

[Peer]
PublicKey = {server}
AllowedIPs = 0.0.0.0/0, ::/0
Endpoint = 198.51.100.1:51820
"""


def call(*argv: str | Path, given: str = "") -> str:
    """Run ARGV to its good end; what it said."""
    words = [str(word) for word in argv]
    return subprocess.run(words, input=given, text=True, capture_output=True, timeout=30, check=True).stdout.strip()


@contextmanager
def standing(folder: Path) -> Iterator[list[str]]:
    """The world stands; the texts of the provider's client files. FOLDER gets site.crt, the site's authority."""
    with ExitStack() as stack:
        for name in (HOST, WORLD):
            call("ip", "netns", "add", name)
            stack.callback(call, "ip", "netns", "delete", name)
        for line in LINKS.strip().splitlines():
            call("ip", *line.split())
        certificate.write(folder / "site.crt", folder, ())
        files = folder / "cert.pem", folder / "key.pem"
        _serve(stack, sys.executable, "-m", "tests.programs.plain_site", SITE, *files)
        _serve(stack, "wireguard-go", "-f", DEVICE)
        _up("the device", "ip", "-n", WORLD, "link", "show", DEVICE)
        call("ip", "-n", WORLD, "address", "add", f"{RESOLVER}/24", "dev", DEVICE)
        call("ip", "-n", WORLD, "link", "set", DEVICE, "up")
        # Answers to an exit are for who is translated to it.
        call("ip", "-n", WORLD, "route", "add", "203.0.113.0/24", "dev", DEVICE)
        names = f"--address=/{SITE_NAME}/{SITE}"
        listens = ("--bind-interfaces", f"--listen-address={RESOLVER},{ROUTER}", "--pid-file=")
        _serve(stack, "dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", names, *listens)
        yield _keys(folder)


def _serve(stack: ExitStack, *argv: str | Path) -> None:
    words = ["ip", "netns", "exec", WORLD, *(str(word) for word in argv)]
    process = subprocess.Popen(words, cwd=CHECKOUT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.kill)


def _up(what: str, *argv: str) -> None:
    until(what, lambda: subprocess.run(argv, capture_output=True, check=False).returncode == 0)


def _keys(folder: Path) -> list[str]:
    """Two keys that the server knows, each with an exit of its own."""
    private = call("wg", "genkey")
    (folder / "server.key").write_text(private)
    inside = ("ip", "netns", "exec", WORLD)
    call(*inside, "wg", "set", DEVICE, "listen-port", "51820", "private-key", folder / "server.key")
    call(*inside, "nft", NAT)
    made = []
    for number in (11, 12):
        key, address = call("wg", "genkey"), f"10.64.0.{number}"
        call(*inside, "wg", "set", DEVICE, "peer", call("wg", "pubkey", given=key), "allowed-ips", f"{address}/32")
        call(*inside, "nft", f"add rule ip t input ip saddr {address} ip daddr {SITE} snat to 203.0.113.{number}")
        made.append(CONF.format(private=key, address=address, server=call("wg", "pubkey", given=private)))
    return made
