"""What a task may do with a browser, what it can go wrong with, and what a browser needs to start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fleet.model import BrowserSettings
from fleet.numbers import BrowserPorts
from fleet.result import Losses


class Browser(Protocol):
    """One running Chrome. Selectors are CSS; every wait ends within its seconds or raises ElementMissing."""

    def open(self, url: str) -> None:
        """Load URL until the page stands; raises PageFailed, also for Chrome's own error page."""
        ...

    def wait(self, selector: str, *, seconds: float) -> int:
        """Wait until SELECTOR is on the page; how many elements match."""
        ...

    def wait_loaded(self, *, seconds: float) -> None:
        """Wait until the page with all it loads stands, as after a form was sent; raises PageFailed."""
        ...

    def fill(self, selector: str, text: str, *, submit: bool = False) -> None:
        """Put TEXT into a field, and send its form if SUBMIT."""
        ...

    def click(self, selector: str) -> None:
        """Click the first match."""
        ...

    def texts(self, selector: str) -> list[str]:
        """The visible text of every match, in the page's order; none is an empty list."""
        ...

    def screenshot(self) -> bytes:
        """The window's content as PNG."""
        ...

    def counts(self) -> Losses:
        """Since the browser's start; waits a moment for requests that are still under way."""
        ...

    @property
    def location(self) -> str:
        """Where the page says it is (`location.href`)."""
        ...

    def close(self) -> None:
        """The certain end: no process, no profile, no temporary file of it is left. Never raises."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """The browser and the driver of this machine, as `worker prepare` found them."""

    browser: Path
    driver: Path
    """For `undetected` the patched copy."""
    version: str
    """The browser's, for example 156.0.7500.3."""

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Everything one browser start needs."""

    settings: BrowserSettings
    installed: Installed
    ports: BrowserPorts
    folder: Path
    """The session's own: wrappers, profile and temporary files; removed at its end."""
    browser: Path
    """The wrapper that stands for the browser."""
    driver: Path
    """The wrapper that stands for the driver."""

    @property
    def profile(self) -> Path:
        return self.folder / "profile"
