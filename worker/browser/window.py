"""The window as pages see it: its size, scale and language, and whether it is a telephone's.

By Chrome's own device emulation (DevTools, domain Emulation). Left to itself a headless Chrome gives a page 87 pixels
less than `--window-size` says, a screen of 800 x 600, and dates in English whatever `--lang` says: on Linux the
language of its own words is the environment's (ui/base/l10n/l10n_util.cc).
"""

from __future__ import annotations

import re

from fleet.model import BrowserSettings
from worker.browser.cdp import Command

_TOUCHES = 5
"""Fingers at once; the number that DevTools gives its telephones."""
_PLATFORM = re.compile(r"\([^)]*\)")


def everywhere(settings: BrowserSettings, user_agent: str) -> tuple[Command, ...]:
    """What every page, frame and worker of a browser is told that calls itself USER_AGENT."""
    language: Command = ("Emulation.setLocaleOverride", {"locale": settings.language})
    if not settings.mobile:
        return (language,)
    # What Chrome says on any Android (its reduced user agent); all else of its own name stays.
    name = _PLATFORM.sub("(Linux; Android 10; K)", user_agent, count=1).replace(" Safari/", " Mobile Safari/")
    hints = {"platform": "Android", "platformVersion": "10", "architecture": "", "model": "", "mobile": True}
    return language, ("Emulation.setUserAgentOverride", {"userAgent": name, "userAgentMetadata": hints})


def of_tab(settings: BrowserSettings) -> tuple[Command, ...]:
    """What the tab is told."""
    size = metrics(settings, settings.window_width, settings.window_height)
    # They come and go with a picture of the whole page, which would be laid out anew.
    bars: Command = ("Emulation.setScrollbarsHidden", {"hidden": True})
    touch: Command = ("Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": _TOUCHES})
    return (size, bars, touch) if settings.mobile else (size, bars)


def metrics(settings: BrowserSettings, width: int, height: int) -> Command:
    """A page has WIDTH and HEIGHT of the window, which is all of the screen."""
    size = {"width": width, "height": height, "screenWidth": width, "screenHeight": height}
    kind = {"deviceScaleFactor": settings.scale_factor, "mobile": settings.mobile}
    return "Emulation.setDeviceMetricsOverride", {**size, **kind}
