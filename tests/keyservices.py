"""A key service in a lab, with faults: the lab's VPN servers accept its keys, all in one tunnel network."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from typing import Any

from pydantic import JsonValue

from lab import vpn
from lab.net import LAUNCH, Lab
from lab.run import Changes
from lab.topology import WEB_ADDRESS, WIREGUARD_PORT, Server
from tests.fleets import Host

PORT = 8070
INSIDE = "10.8.0"
_NAT = "add rule ip exit postrouting ip saddr {inside}.0/24 oifname eth0 counter snat to {address}"


class Service:
    """The stand-in key service on LAB's host `web`, with EACH keys of every server."""

    def __init__(self, lab: Lab, each: int) -> None:
        self.lab, self.folder = lab, lab.places.root / "keyservice"
        self.folder.mkdir(mode=0o700, exist_ok=True)
        keys = [one for server in lab.topology.vpn for one in self._keys(server, each)]
        (self.folder / "keys.json").write_text(json.dumps(keys))
        (self.folder / "journal").unlink(missing_ok=True)
        self.privates = [one["private_key"] for one in keys]
        self.process: subprocess.Popen[str] | None = None
        self.fault("")
        self.start()

    @property
    def settings(self) -> Changes:
        """The table `keys.source` of fleet.toml for this service."""
        table: dict[str, JsonValue] = {"insecure_http": True, "timeout_seconds": 3}
        table |= {name: f"http://{WEB_ADDRESS}:{PORT}/{name}" for name in ("allocate", "release", "status")}
        table["servers"] = [str(server.address) for server in self.lab.topology.vpn]
        return {"keys.source": table}

    def start(self) -> None:
        """Start it; it still knows what it lent before."""
        argv = [sys.executable, "-I", str(LAUNCH), "lab.keyservice", str(self.folder), str(WEB_ADDRESS), str(PORT)]
        self.process = self.lab.popen("web", argv, stdout=subprocess.PIPE)
        assert self.process.stdout and self.process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process
        self.process.kill()
        self.process.wait(10)

    def fault(self, word: str) -> None:
        """Set its fault to WORD, from now on (lab/keyservice.py lists them; "": none)."""
        (self.folder / "fault").write_text(word)

    def events(self) -> list[tuple[str, str]]:
        """The journal: each event with its public key, in order."""
        path = self.folder / "journal"
        lines = map(json.loads, path.read_text().splitlines() if path.exists() else ())
        return [(line["event"], line["public_key"]) for line in lines]

    def lent(self) -> set[str]:
        """The keys that are lent now."""
        out: set[str] = set()
        for event, public in self.events():
            out = out - {public} if event == "back" else out | {public} if event == "lent" else out
        return out

    def unheard(self) -> set[str]:
        """Keys that were lent but whose answer never arrived completely, so the client cannot give them back."""
        heard: dict[str, bool] = {}
        for event, public in self.events():
            heard[public] = event != "lent"
        return {public for public, was in heard.items() if not was}

    def _keys(self, server: Server, each: int) -> list[dict[str, Any]]:
        """Make EACH keys in the shared tunnel network, and add them to SERVER."""
        control = self.lab.places.wireguard_socket(server.host, server.interface)
        path = next(self.lab.places.keys.glob(f"{server.host}-*.conf")).read_text()
        own = next(line.partition(" = ")[2] for line in path.splitlines() if line.startswith("PublicKey"))
        made = []
        for number in range(2, 2 + each):
            key, address = vpn.Key.fresh(), f"{INSIDE}.{number}/32"
            vpn.ask(control, "set=1", f"public_key={key.public.hex()}", f"allowed_ip={address}")
            text = {"private_key": base64.b64encode(key.private).decode(), "public_key": vpn.Key.text(key.public)}
            place = {"server_address": str(server.address), "server_port": WIREGUARD_PORT, "server_public_key": own}
            made.append({**place, **text, "client_address": address})
        words = ("ip", "route", "replace", f"{INSIDE}.0/24", "dev", server.interface)
        self.lab.run(server.host, words, check=True)
        nat = _NAT.format(inside=INSIDE, address=server.address)
        self.lab.run(server.host, ["nft", nat], check=True)
        return made


def in_devices(host: Host) -> dict[str, str]:
    """By interface, the public key of each of HOST's tunnels that has one, as wg shows it."""
    shown = host.host(["wg", "show", "all", "public-key"]).stdout.splitlines()
    found = dict(line.split() for line in shown)
    return {name: public for name, public in found.items() if public != "(none)"}


class Judge:
    """Checks that each key in a device is lent by the service, and is in no other device."""

    def __init__(self, host: Host, service: Service) -> None:
        self._host, self._service = host, service
        self.seen: set[str] = set()

    def look(self) -> bool:
        """Check once; returns whether any device has ever had a key.

        A key that appeared or went during the check was lent before or after it, so both lists count.
        """
        before = self._service.lent()
        found = in_devices(self._host)
        lent = before | self._service.lent()
        self.seen |= {*found.values()}
        assert len({*found.values()}) == len(found), f"one key in two devices: {found}"
        assert {*found.values()} <= lent, f"given back, and still in a device: {found}"
        return bool(self.seen)
