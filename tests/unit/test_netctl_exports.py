"""Client files as providers, routers and editors write them: each is imported right, or refused in one line."""

from __future__ import annotations

import base64
import codecs
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from fleet.errors import ConfigurationError
from fleet.model import Paths
from netctl.plan.key import Key, Secret
from netctl.pool import commands, conf
from tests.unit.test_netctl_unsaid import told

OWN = base64.b64encode(bytes(range(8, 40))).decode()
SERVER = base64.b64encode(bytes(range(100, 132))).decode()
SHARED = base64.b64encode(bytes(range(40, 72))).decode()
LINES = f"""[Interface]
PrivateKey = {OWN}
Address = 10.9.9.4/32

[Peer]
PublicKey = {SERVER}
PresharedKey = {SHARED}
AllowedIPs = 0.0.0.0/0, ::/0
Endpoint = vpn.example:51820
"""
GOOD = LINES.encode()
KEY = Key(
    private=Secret.parse_private(OWN),
    preshared=Secret.parse(SHARED),
    address=IPv4Address("10.9.9.4"),
    server_public=SERVER,
    server="vpn.example",
    port=51820,
)
EXIT = replace(KEY, exit_address=IPv4Address("203.0.113.11"))
EVERYTHING_PUBLIC = "0.0.0.0/5, 8.0.0.0/7, 11.0.0.0/8, 12.0.0.0/6, 16.0.0.0/4, 32.0.0.0/3, 64.0.0.0/2, 128.0.0.0/3, \
160.0.0.0/5, 168.0.0.0/6, 172.0.0.0/12, 172.32.0.0/11, 172.64.0.0/10, 172.128.0.0/9, 173.0.0.0/8, 174.0.0.0/7, \
176.0.0.0/4, 192.0.0.0/9, 192.128.0.0/11, 192.160.0.0/13, 192.169.0.0/16, 193.0.0.0/8, 194.0.0.0/7, 196.0.0.0/6, \
200.0.0.0/5, 208.0.0.0/4"


def but(old: str, new: str) -> bytes:
    """The ordinary file with NEW instead of OLD."""
    assert old in LINES
    return LINES.replace(old, new).encode()


READ: dict[str, tuple[bytes, Key]] = {
    "a mark of byte order": (codecs.BOM_UTF8 + GOOD, KEY),
    "UTF-16 of Windows": (LINES.replace("\n", "\r\n").encode("utf-16"), KEY),
    "UTF-16 without its mark": (LINES.encode("utf-16-le"), KEY),
    "UTF-16 the other way round": (codecs.BOM_UTF16_BE + LINES.encode("utf-16-be"), KEY),
    "comments in code page 949": ("# 서울 3번\n".encode("cp949") + GOOD, KEY),
    "comments in Latin-1": (b"# Z\xfcrich\n" + GOOD, KEY),
    "lines of Windows, and of an old Mac": (
        LINES.replace("\n", "\r\n", 3).replace("\n[Peer]", "\r[Peer]").encode(),
        KEY,
    ),
    "a trailing comma": (but("4/32", "4/32,"), KEY),
    "blanks instead of commas": (but("4/32", "4/32  fd00::4/64"), replace(KEY, address_v6=IPv6Address("fd00::4"))),
    "blanks in front and behind": (LINES.replace("\n", "  \n\t ").encode(), KEY),
    "no blanks at all": (LINES.replace(" ", "").encode(), KEY),
    "other capitals": (LINES.replace("PrivateKey", "privatekey").replace("[Peer]", "[ PEER ]").encode(), KEY),
    "quotes": (but("10.9.9.4/32", '"10.9.9.4/32"'), KEY),
    "blanks without width and wide ones": (but("10.9.9.4", "\u200b10.9.9.4\ufeff\u00a0"), KEY),
    "signs of a Korean keyboard": (but("vpn.example:51820", "ｖｐｎ．ｅｘａｍｐｌｅ：５１８２０"), KEY),
    "a copied key without its last sign": (but(OWN, OWN[:-1]), KEY),
    "an empty preshared key": (but(f" {SHARED}", ""), replace(KEY, preshared=None)),
    "a preshared key of zeros": (but(SHARED, "A" * 43 + "="), replace(KEY, preshared=None)),
    "no mask": (but("/32", ""), KEY),
    "a final dot": (but("vpn.example", "VPN.example."), KEY),
    "an underscore": (but("vpn.example", "my_home.duckdns.org"), replace(KEY, server="my_home.duckdns.org")),
    "another script": (but("vpn.example", "서버.example.kr"), replace(KEY, server="xn--hk3b17f.example.kr")),
    "an IPv6 server": (but("vpn.example", "[2001:DB8::1]"), replace(KEY, server="2001:db8::1")),
    "half and half": (but("0.0.0.0/0, ::/0", "0.0.0.0/1, 128.0.0.0/1"), KEY),
    "all but private networks": (but("0.0.0.0/0, ::/0", EVERYTHING_PUBLIC), KEY),
    "an office beside the exit": (
        but("[Peer]", f"[Peer]\nPublicKey = {OWN}\nAllowedIPs = 10.8.0.0/24\nEndpoint = 192.0.2.1:1\n[Peer]"),
        KEY,
    ),
    "AmneziaWG that is plain": (but("[Peer]", "Jc = 3\nS1 = 0\nH1 = 1\nH2 = 2-2\nI1 = <b 0xc1>\n[Peer]"), KEY),
    "what the fleet does itself": (but("[Peer]", "DNS = 10.255.255.3, fritz.box\nPostUp = ip #\n[Peer]"), KEY),
    "entries without values": (but("[Peer]", "DNS =\nPostUp =\n[Peer]"), KEY),
    "an exit with a word": (b"# ExitAddress = 203.0.113.11 (Seoul)\n" + GOOD, EXIT),
    "an exit with a colon": (b"; exit address: 203.0.113.11\n" + GOOD, EXIT),
    "an exit with a comma and a mask": (b"#ExitAddress=203.0.113.11/32,\n" + GOOD, EXIT),
    "an exit that is an entry": (but("[Peer]", "ExitAddress = 203.0.113.11\n[Peer]"), EXIT),
    "an exit before the sections": (b"ExitAddress = 203.0.113.11\n" + GOOD, EXIT),
    "an exit behind an entry": (but("51820", "51820 # ExitAddress = 203.0.113.11"), EXIT),
    "two exits in one line": (
        b"# ExitAddress = 203.0.113.11, 2001:db8::1\n" + GOOD,
        replace(EXIT, exit_address_v6=IPv6Address("2001:db8::1")),
    ),
    "a note behind a section": (but("[Peer]", "[Peer] ; Seoul"), KEY),
    "an address of the link": (but("4/32", "4/32, fe80::1%wg0/64"), KEY),
    "an IPv4 server as IPv6": (but("vpn.example", "[::ffff:198.51.100.1]"), replace(KEY, server="198.51.100.1")),
    "an exit twice, once misspelt": (b"# Exit adress = 203.0.113.11\n# ExitAddress = 203.0.113.11\n" + GOOD, EXIT),
    "words about an exit": (b"# the exit address is learned\n# ExitAddress may vary\n" + GOOD, KEY),
}
REFUSED = {
    "a ZIP archive": (b"PK\x03\x04...", "unpack it"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0", "QR code"),
    "bytes": (b"\x01\x02\x03\x04", "is no text"),
    "nothing": (b" \r\n", "is empty"),
    "NetworkManager's": (f"[connection]\nid=kr\n[wireguard]\nprivate-key={OWN}\n".encode(), "wg showconf"),
    "networkd's": (f"[NetDev]\nKind=wireguard\n[WireGuard]\nPrivateKey={OWN}\n".encode(), "systemd-networkd"),
    "OpenVPN's": (b"client\nremote vpn.example 1194\n", "OpenVPN"),
    "JSON": (f'{{"private_key": "{OWN}"}}'.encode(), "is JSON"),
    "a web page": (b"<!DOCTYPE html><html>", "log-in page"),
    "JSON of several": (f'[{{"private_key": "{OWN}"}}]'.encode(), "is JSON"),
    "rich text": (rb"{\rtf1\ansi [Interface]\ ", "save it as plain text"),
    "an archive of tar": (b"kr.conf".ljust(257, b"\0") + b"ustar\0", "unpack it"),
    "WireGuard's own of Windows": (bytes.fromhex("01000000d08c9ddf0115d111"), "Export all tunnels to zip"),
    "gluetun's": (f"VPN_TYPE=wireguard\nWIREGUARD_PRIVATE_KEY={OWN}\n".encode(), "no [Interface] and no [Peer]"),
    "Clash's": (f"proxies:\n  - type: wireguard\n    private-key: {OWN}\n".encode(), "no [Interface] and no [Peer]"),
    "MikroTik's": (f'/interface wireguard\nadd name=a private-key="{OWN}"\n'.encode(), "the provider's .conf file"),
    "a server's": (
        but("Endpoint = vpn.example:51820\n", "").replace(b"0.0.0.0/0, ::/0", b"10.9.9.5/32"),
        "server's file",
    ),
    "what `wg show` prints": (f"interface: wg0\n  private key: {OWN}\n".encode(), "wg showconf"),
    "AmneziaWG's": (but("[Peer]", "S1 = 63\nH1 = 479794990-486422101\n[Peer]"), "AmneziaWG (S1, H1)"),
    "a LAN alone": (but("0.0.0.0/0, ::/0", "192.168.178.0/24"), "reaches only '192.168.178.0/24'"),
    "a half": (but("0.0.0.0/0, ::/0", "0.0.0.0/1"), "and no website"),
    "IPv6 alone": (but("10.9.9.4/32", "fd00:1::4/128"), "no IPv4 address"),
    "two files in one": (GOOD + GOOD, "more than one [Interface]"),
    "two exits": (but("[Peer]", f"[Peer]\nPublicKey = {OWN}\nAllowedIPs = 0.0.0.0/0\n[Peer]"), "more than one [Peer]"),
    "no exit": (
        but("0.0.0.0/0, ::/0", "10.0.0.0/8") + f"[Peer]\nPublicKey = {OWN}\n".encode(),
        "several [Peer], none with",
    ),
    "a key to be filled in": (but(OWN, "<insert_your_private_key_here>"), "PrivateKey: is no base64 key"),
    "a section misspelt": (
        but("[Interface]", "[Interfaces]"),
        "has no [Interface]: is it the section [Interfaces]?",
    ),
    "an odd address": (but("10.9.9.4/32", "10.9.9.400/32"), "'10.9.9.400/32' is no address"),
    "an odd second address": (but("4/32", "4/32, fd00::1/129"), "'fd00::1/129' is no address"),
    "an odd port": (but("51820", "70000"), "'vpn.example:70000' has no port"),
    "no port": (but(":51820", ""), "'vpn.example' is not HOST:PORT"),
    "an address that is none": (but("vpn.example", "198.51.100.300"), "'198.51.100.300:51820'"),
    "no server": (but("vpn.example", "0.0.0.0"), "of no server"),
    "an exit that is no address": (b"# ExitAddress = Seoul\n" + GOOD, "ExitAddress: 'Seoul' is no address"),
    "an exit without one": (b"# ExitAddress =\n" + GOOD, "ExitAddress: has no address"),
    "all in one line": (LINES.replace("\n", " ").encode(), "each entry needs a line of its own"),
    "all in one line of JSON": (LINES.replace("\n", "\\n").encode(), "each entry needs a line of its own"),
    "a key of X": (but(OWN, "X" * 43 + "="), "PrivateKey: is no key, only a placeholder"),
    "a server's key of zeros": (but(SERVER, "A" * 43 + "="), "PublicKey: is no key, only a placeholder"),
    "its own key as the server's": (but(SERVER, OWN), "PublicKey: is the same as PrivateKey"),
    "no server at all": (but("Endpoint = vpn.example:51820\n", ""), "Endpoint is missing"),
    "a server with a scope": (but("vpn.example", "[fe80::1%eth0]"), "'[fe80::1%eth0]:51820' has a scope (%)"),
    "a server of the link": (but("vpn.example", "[fe80::1]"), "fe80::1 is the address of no server"),
    "a reserved server": (but("vpn.example", "255.255.255.255"), "255.255.255.255 is the address of no server"),
    "two exits of a family": (
        b"# ExitAddress = 203.0.113.11\n# ExitAddress = 203.0.113.12\n" + GOOD,
        "more than one of a",
    ),
    "an exit that is a network": (b"# ExitAddress = 203.0.113.0/24\n" + GOOD, "'203.0.113.0/24' is no address"),
}


def looked_at(data: bytes, folder: Path) -> Key | str:
    """What the file that holds DATA is: a key, or the line that refuses it."""
    path = folder / "seoul.conf"
    path.write_bytes(data)
    _, found = commands.looked_at(str(path))
    if found.key:
        return found.key
    with pytest.raises(ConfigurationError) as caught:
        commands.bring([str(path)], Paths(root=folder))
    assert caught.value.message.startswith(f"{path}: ")
    return caught.value.message


@pytest.mark.parametrize(("data", "wanted"), READ.values(), ids=READ)
def test_a_file_is_read_as_people_have_it(data: bytes, wanted: Key, tmp_path: Path) -> None:
    """Encodings, blanks, signs, what programs leave empty or add: it is the same key."""
    assert looked_at(data, tmp_path) == wanted


@pytest.mark.parametrize(("data", "words"), REFUSED.values(), ids=REFUSED)
def test_what_can_never_work_is_refused_by_name(data: bytes, words: str, tmp_path: Path) -> None:
    """One line, with the file, what it is or what is odd in it, and no key."""
    line = looked_at(data, tmp_path)
    assert isinstance(line, str)
    assert words in line
    assert len(line.splitlines()) == 1
    assert not told(line, OWN)


def test_what_is_not_used_is_one_line(tmp_path: Path) -> None:
    """Names of entries and the value of DNS; files that say the same share a line."""
    for number, name in enumerate(("a.conf", "b.conf")):
        (tmp_path / name).write_bytes(but("[Peer]", f"DNS = 10.64.0.1\nPostUp = x{number}\nTable = off\n[Peer]"))
    found = [commands.looked_at(str(tmp_path / name))[1].unused for name in ("a.conf", "b.conf")]
    (tmp_path / "e.conf").write_bytes(but("[Peer]", f"PresharedKey = {SHARED}\n[Peer]\nMTU = 1280"))
    assert commands.looked_at(str(tmp_path / "e.conf"))[1].unused == "PresharedKey, MTU"
    (tmp_path / "d.conf").write_bytes(but("10.9.9.4", "10.255.1.4"))
    key = commands.looked_at(str(tmp_path / "d.conf"))[1].key
    assert key
    words = "DNS, the key, while 10.255.1.4 is among workers.placeholders (10.255.0.0/16)"
    assert commands._unused(key, "DNS", commands._settings(Paths(root=tmp_path))) == words
    (tmp_path / "c.conf").write_bytes(but("10.9.9.4/32", "10.9.9.4/32, fd00::4\nMTU = 1200"))
    assert commands.looked_at(str(tmp_path / "c.conf"))[1].unused == "IPv6 (it needs an MTU of 1280)"
    assert conf.shared([*zip(("a.conf", "b.conf"), found, strict=True)]) == [
        "a.conf and 1 more: not used: DNS '10.64.0.1' (workers ask dns.resolvers), PostUp, Table"
    ]
