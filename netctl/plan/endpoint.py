"""Where a VPN server is reached."""

from __future__ import annotations

from typing import NamedTuple


class Endpoint(NamedTuple):
    """An address or a name, and a UDP port; as text HOST:PORT, an IPv6 address in brackets."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """The endpoint in TEXT; raises ValueError where it has no port. What HOST may be is not looked at."""
        host, _, port = text.rpartition(":")
        if not port.isdecimal():
            raise ValueError(f"{text!r} is not HOST:PORT")
        return cls(host.strip("[]"), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
