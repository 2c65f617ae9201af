"""Whether the browser's packages are being replaced, as dpkg's own database says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.errors import TryLater
from worker import packages

OLD, NEW = "150.0-1", "156.0-1"


def told(database: Path, *listed: tuple[str, str, str]) -> None:
    """DATABASE has these packages: name, state, version; all of chromium's source."""
    for name in ("updates", "info"):
        (database / name).mkdir(exist_ok=True)
    lines = "Package: {}\nStatus: install ok {}\nArchitecture: all\nSource: chromium\nVersion: {}\n"
    (database / "status").write_text("\n".join(lines.format(*one) for one in listed))
    packages.settled(Path("/usr/bin/chromium"), database)


def test_packages_that_are_settled(tmp_path: Path) -> None:
    """All of one release; one that was removed, or is no browser's, and no database at all, hold nobody up."""
    packages.settled(Path("/usr/bin/chromium"), tmp_path / "nowhere")
    told(tmp_path)
    told(tmp_path, ("chromium", "unpacked", NEW), ("chromium-common", "installed", NEW))
    told(tmp_path, ("chromium", "installed", NEW), ("chromium-shell", "config-files", OLD))
    told(tmp_path, ("chromium", "installed", NEW), ("firefox", "half-installed", OLD))


UNSETTLED = {
    "being unpacked": ("installed", "half-installed", OLD, "chromium-common is being unpacked"),
    "of two releases": ("installed", "unpacked", OLD, f"chromium-common {OLD} beside chromium {NEW}"),
}


@pytest.mark.parametrize("what", UNSETTLED)
def test_packages_that_are_replaced(tmp_path: Path, what: str) -> None:
    """They are named, with what to do should it last."""
    state, common, version, words = UNSETTLED[what]
    with pytest.raises(TryLater) as caught:
        told(tmp_path, ("chromium", state, NEW), ("chromium-common", common, version))
    assert words in caught.value.message and "apt --fix-broken install" in caught.value.hint
