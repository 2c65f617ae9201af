"""Finds the visitor's address in a text of the site."""

from __future__ import annotations

import ipaddress
import re

from fleet.errors import ElementMissing
from worker.browser.commands import Browser
from worker.tasks.options import TaskOptions

_WORDS = re.compile(r"[0-9A-Fa-f:.]{3,45}")


def seen_address(browser: Browser, options: TaskOptions) -> str | None:
    """The address in `seen_address`; raises ElementMissing unless it shows exactly one address."""
    if options.seen_address is None:
        return None
    browser.wait(options.seen_address, seconds=options.wait_seconds, state="visible")
    text = " ".join(browser.texts(options.seen_address))
    found = addresses(text)
    if len(found) != 1:
        what = "more than one address" if found else "no address"
        raise ElementMissing(
            f"task.options.seen_address {options.seen_address!r} shows {what}: {text[:80]!r}",
            hint="it has to select the one element in which the site shows its visitor's address",
        )
    return found[0]


def addresses(text: str) -> list[str]:
    """The IP addresses in TEXT, each once; versions and times of day do not count."""
    found: list[str] = []
    for word in _WORDS.findall(text):
        try:
            address = str(ipaddress.ip_address(word.strip(".:") if "::" not in word else word.rstrip(".")))
        except ValueError:
            continue
        if address not in found:
            found.append(address)
    return found
