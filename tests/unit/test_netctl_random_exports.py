"""A grammar of real client files: each is imported right; one that was spoiled is imported, or refused in one line."""

from __future__ import annotations

import base64
import random
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netctl.plan.key import Key, Secret
from tests.unit.test_netctl_exports import looked_at
from tests.unit.test_netctl_unsaid import told


@dataclass(frozen=True)
class Export:
    """A file as some program writes it, and the key that it holds."""

    text: str
    key: Key


def _entry(name: str, value: str, rng: random.Random) -> str:
    name = rng.choice([name, name, name.lower(), name.upper()])
    blank = rng.choice([" ", "", "\t", "\u00a0"])
    return (
        f"{rng.choice(['', '', '  '])}{name}{blank}={blank}{value}{rng.choice(['', '', ' ', ' # note', chr(0x200B)])}"
    )


def _written(rng: random.Random) -> Export:
    """A file as one of many programs could have written it."""
    own, server, preshared = (base64.b64encode(rng.randbytes(32)).decode() for _ in range(3))
    address, v6 = IPv4Address(rng.randrange(0x0A000001, 0x0AFEFFFF)), IPv6Address(rng.randrange(2**112) + (0xFD << 120))
    host = rng.choice(["vpn.example", "kr-seo-wg-001.relays.example", "198.51.100.7", "2001:db8::7", "a_b.example"])
    port, with_v6, with_preshared = rng.randrange(1, 65536), rng.random() < 0.5, rng.random() < 0.5
    exit_v4 = ip_address(rng.randrange(0xCB007100, 0xCB0071FF)) if rng.random() < 0.3 else None
    comma = rng.choice([",", ", ", " , "])
    addresses = f"{address}{rng.choice(['', '/32', '/24'])}" + (
        f"{comma}{v6}/128" if with_v6 else rng.choice(["", ","])
    )
    interface = [_entry("PrivateKey", own, rng), _entry("Address", addresses, rng)]
    extra = (
        "DNS = 10.64.0.1",
        "ListenPort = 51820",
        "Table = off",
        "PostUp = iptables -A x",
        "DNS =",
        "# Device: Happy",
    )
    interface += rng.sample(extra, rng.randrange(4))
    peer = [
        _entry("PublicKey", server, rng),
        _entry("AllowedIPs", rng.choice(["0.0.0.0/0", "0.0.0.0/1, 128.0.0.0/1"]) + f"{comma}::/0", rng),
        _entry("Endpoint", f"[{host}]:{port}" if ":" in host else f"{host}:{port}", rng),
    ]
    peer += [_entry("PresharedKey", preshared, rng)] if with_preshared else rng.choice([[], ["PresharedKey ="]])
    peer += rng.sample(["PersistentKeepalive = 25", "# BE#3", ""], rng.randrange(3))
    rng.shuffle(interface)
    rng.shuffle(peer)
    lines = ["[Interface]", *interface, "", rng.choice(["[Peer]", "[peer]"]), *peer, ""]
    if exit_v4:
        lines.insert(rng.choice([0, len(lines)]), f"#{rng.choice(['', ' '])}ExitAddress = {exit_v4}")
    key = Key(
        private=Secret.parse_private(own),
        preshared=Secret.parse(preshared) if with_preshared else None,
        address=address,
        address_v6=v6 if with_v6 else None,
        server_public=server,
        server=host,
        port=port,
        exit_address=exit_v4,
    )
    return Export(rng.choice(["\n", "\r\n"]).join(lines), key)


exports = st.integers().map(random.Random).map(_written)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le")


@settings(max_examples=100)
@given(exports, st.sampled_from(ENCODINGS))
def test_a_random_export_is_imported_right(
    tmp_path_factory: pytest.TempPathFactory, one: Export, encoding: str
) -> None:
    """Whatever program wrote it, and however it was saved: the key that it holds."""
    assert looked_at(one.text.encode(encoding), tmp_path_factory.getbasetemp()) == one.key


def _mutated(text: str, rng: random.Random) -> str:
    """TEXT after one thing that happens to files."""
    lines = text.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    name, equals, value = lines[at].partition("=")
    changes = (
        lambda: "".join(lines[:at] + lines[at + 1 :]),
        lambda: "".join([*lines[: at + 1], *lines[at:]]),
        lambda: text[: rng.randrange(len(text))],
        lambda: text + text,
        lambda: "".join([*lines[:at], f"{name}{equals}{value[: len(value) // 2]}\n", *lines[at + 1 :]]),
        lambda: "".join([*lines[:at], f"{name}{value}", *lines[at + 1 :]]),
        lambda: "".join(
            [*lines[:at], f"{name}= {rng.choice(['YOUR KEY', '<x>', '10.0.0.300', '::', '-'])}\n", *lines[at + 1 :]]
        ),
        lambda: re.sub("[0-9]", rng.choice("x./:"), text, count=rng.randrange(1, 9)),
    )
    return rng.choice(changes)()


@settings(max_examples=100)
@given(exports, st.integers())
def test_a_spoiled_export_is_imported_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, one: Export, seed: int
) -> None:
    """No other outcome, whatever has happened to it: a key, or a line with the file's name and no part of a key."""
    found = looked_at(_mutated(one.text, random.Random(seed)).encode(), tmp_path_factory.getbasetemp())
    if isinstance(found, str):
        assert len(found.splitlines()) == 1
        for secret in (one.key.private, one.key.preshared):
            assert secret is None or not told(found, base64.b64encode(secret.reveal()).decode())
