"""The addresses this host shows the world without a tunnel.

A tunnel whose exit shows one of them is no tunnel; workers refuse it. Asked once at `fleet up`, as
root, outside every tunnel. Not to know them is a warning: the exit of a key is then still compared with
what its .conf file says or what it showed first.
"""

from __future__ import annotations

import ipaddress
import json
import ssl
from collections.abc import Iterator

import httpx

from fleet import log
from fleet.model import EgressSettings, Fleet, Paths
from fleet.result import write_durably
from fleet.wire import Address

_FAMILIES = {"IPv4": "0.0.0.0", "IPv6": "::"}  # noqa: S104 - source wildcards that pick a family, nothing listens
_ANSWER_BYTES = 4096
_log = log.get("fleet")


def learn(fleet: Fleet, paths: Paths) -> tuple[Address, ...]:
    """Write Paths.host_addresses, one address a line (none when nobody answered), and give what it holds."""
    found = fleet.egress.host_addresses or tuple(_ask_all(fleet))
    if not found:
        _log.warning("host_address.unknown", urls=fleet.egress.urls, hint="set egress.host_addresses in fleet.toml")
    write_durably(paths.host_addresses, "".join(f"{address}\n" for address in found).encode())
    paths.host_addresses.chmod(0o644)
    return found


def _ask_all(fleet: Fleet) -> Iterator[Address]:
    trust = ssl.create_default_context()
    for authority in fleet.browser.certificate_authorities:
        trust.load_verify_locations(authority)
    for family, source in _FAMILIES.items():
        address = _first_answer(fleet.egress, source, trust, family)
        if address is not None:
            yield address


def _first_answer(settings: EgressSettings, source: str, trust: ssl.SSLContext, family: str) -> Address | None:
    with httpx.Client(
        transport=httpx.HTTPTransport(local_address=source, verify=trust), timeout=settings.timeout_seconds
    ) as client:
        for url in settings.urls:
            try:
                answer = client.get(url, headers={"Accept": "text/plain, application/json"})
                answer.raise_for_status()
                return parse_address(answer.text[:_ANSWER_BYTES])
            except (httpx.HTTPError, OSError, ValueError) as error:
                _log.debug("host_address.no_answer", url=url, family=family, reason=str(error))
    return None


def parse_address(text: str) -> Address:
    """The address in an answer: plain text, or JSON with the field `ip`; raises ValueError for anything else."""
    text = text.strip()
    if text.startswith("{"):
        text = str(json.loads(text).get("ip", ""))
    return ipaddress.ip_address(text)
