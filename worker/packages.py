"""Asks Debian's package manager whether the browser is being replaced: its files are then of two releases.

Chromium is four packages, which are unpacked separately: for seconds a browser of one release finds the files of
another; it still prints its own version, but cannot start.
"""

from __future__ import annotations

import subprocess
from collections import defaultdict
from pathlib import Path

from fleet.errors import TryLater

_DATABASE = Path("/var/lib/dpkg")
_FIELDS = "${source:Package} ${source:Version} ${db:Status-Status} ${Package}\\n"
_SOME_FILES = ("installed", "unpacked", "half-configured", "triggers-awaited", "triggers-pending")


def settled(browser: Path, database: Path = _DATABASE) -> None:
    """Raises TryLater while packages that begin with the name of BROWSER are being unpacked, or are of two releases."""
    command = ["dpkg-query", f"--admindir={database}", "--show", f"--showformat={_FIELDS}", f"{browser.name}*"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return  # not Debian, or no answer in time
    releases: dict[str, dict[str, str]] = defaultdict(dict)
    for source, version, state, name in (one for line in listed.splitlines() if len(one := line.split()) == 4):
        if state == "half-installed":
            raise _unsettled(browser, f"{name} is being unpacked")
        if state in _SOME_FILES:
            releases[source].setdefault(version, name)
    for found in releases.values():
        if len(found) > 1:
            raise _unsettled(browser, " beside ".join(f"{name} {version}" for version, name in sorted(found.items())))


def _unsettled(browser: Path, why: str) -> TryLater:
    hint = "it passes when the package manager has done; where it does not: apt --fix-broken install"
    return TryLater(f"{browser} is being replaced: {why}", hint=hint)
