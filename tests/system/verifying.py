"""A lab with a fleet for `fleet verify`, and its output."""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import run
from lab.topology import ECHO_NAME, STUN_PORT, WEB_ADDRESS
from lab.vpn import with_ipv6
from tests.fleets import ONE_LOOP, Host

SETTINGS: run.Changes = {**ONE_LOOP, "verify": {"resolver_echo": ECHO_NAME, "stun": f"{WEB_ADDRESS}:{STUN_PORT}"}}


@dataclass(frozen=True)
class Said:
    """The result of one `fleet verify`."""

    code: int
    report: dict[str, Any]
    text: str
    """All of it, as it was said."""

    def but(self, verdict: str) -> dict[str, str]:
        """The properties with another verdict than VERDICT, each with what was seen."""
        return {one["name"]: one["seen"] for one in self.report["properties"] if one["verdict"] != verdict}

    def seen(self, name: str) -> str:
        """What was seen for the property NAME."""
        return next(str(one["seen"]) for one in self.report["properties"] if one["name"] == name)

    def are(self, verdict: str) -> set[str]:
        """The properties with the verdict VERDICT."""
        return {one["name"] for one in self.report["properties"] if one["verdict"] == verdict}


class Verified(Host):
    """A lab's host with accounts, keys, and settings with which everything holds."""

    usual = SETTINGS

    def keys(self, *, ipv6: bool) -> None:
        """Make the pool hold the lab's keys and no others, with or without IPv6 addresses."""
        listed = json.loads(self.command("keys", "list", "--json", check=True).stdout)
        self.command("keys", "remove", *(one["public_key"] for one in listed), check=True)
        with tempfile.TemporaryDirectory() as folder:
            for given in self.lab.places.keys.glob("*.conf"):
                (host, _, number), text = given.stem.rpartition("-"), given.read_text()
                server = next(one for one in self.lab.topology.vpn if one.host == host)
                Path(folder, given.name).write_text(with_ipv6(text, server, int(number)) if ipv6 else text)
            self.command("keys", "import", *map(str, sorted(Path(folder).iterdir())), check=True)

    def private_keys(self) -> set[str]:
        """Every private key in the pool."""
        texts = [path.read_text() for path in self.lab.places.keys.glob("*.conf")]
        return {found[1] for text in texts if (found := re.search(r"PrivateKey = (\S+)", text))}

    def programs(self) -> dict[str, int]:
        """By name, the pid of every program under supervisord."""
        snapshot = json.loads(self.operate("status", "--json").stdout)
        return {one["name"]: one["pid"] for one in snapshot["programs"]}

    def verify(self, *words: str) -> Said:
        """Run `fleet verify` for the first worker."""
        done = self.operate("verify", "--worker", self.worker().name, "--json", *words)
        assert done.stdout, done.stderr
        return Said(code=done.returncode, report=json.loads(done.stdout), text=done.stdout + done.stderr)
