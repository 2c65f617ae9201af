"""Sets how pages see the window: its size, scale and language, and whether it is a telephone's.

It uses Chrome's device emulation (DevTools, domain Emulation). Without it a headless Chrome gives a page 87 pixels less
than `--window-size`, a screen of 800 x 600, and English dates whatever `--lang` is: on Linux the language of its own
texts comes from the environment (ui/base/l10n/l10n_util.cc).
"""

from __future__ import annotations

import re

from fleet.model import BrowserSettings
from worker.browser.cdp import Command

_TOUCHES = 5
"""Touch points at once; the number that DevTools uses for telephones."""
_PLATFORM = re.compile(r"\([^)]*\)")


def everywhere(settings: BrowserSettings, user_agent: str) -> tuple[Command, ...]:
    """The commands for every page, frame and web worker of a browser whose own user agent is USER_AGENT."""
    language: Command = ("Emulation.setLocaleOverride", {"locale": settings.language})
    if not settings.mobile:
        return (language,)
    # The platform part of Chrome's reduced user agent on Android; the rest is unchanged.
    name = _PLATFORM.sub("(Linux; Android 10; K)", user_agent, count=1).replace(" Safari/", " Mobile Safari/")
    hints = {"platform": "Android", "platformVersion": "10", "architecture": "", "model": "", "mobile": True}
    return language, ("Emulation.setUserAgentOverride", {"userAgent": name, "userAgentMetadata": hints})


def of_tab(settings: BrowserSettings) -> tuple[Command, ...]:
    """The commands for the tab."""
    # A page has the size of the window, which is also that of the screen.
    width, height = settings.window_width, settings.window_height
    size = {"width": width, "height": height, "screenWidth": width, "screenHeight": height}
    kind = {"deviceScaleFactor": settings.scale_factor, "mobile": settings.mobile}
    metrics: Command = ("Emulation.setDeviceMetricsOverride", {**size, **kind})
    # Scrollbars would appear and vanish with a picture of the whole page, and so change the page's layout.
    bars: Command = ("Emulation.setScrollbarsHidden", {"hidden": True})
    touch: Command = ("Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": _TOUCHES})
    return (metrics, bars, touch) if settings.mobile else (metrics, bars)
