"""The state of the tab as Chrome reports it: the present document, how it was loaded, and what happened meanwhile.

Documents are distinguished by Chrome's own id of their load (`loaderId`), never by anything in the page.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from worker.browser.cdp import Parameters

MOST_DIALOGS = 10
"""A page that opens more dialogs than this has failed: no person would close them."""
MOST_LOADS = 20
"""A page that replaces itself more often than this has failed: it might do so forever."""
_COMES_SECONDS = 5.0
_SOON_SECONDS = 5.0
"""A page that announces another one within this time is only a step on the way and is not read."""
_KEPT = 50
_PAGES = ("http://", "https://", "about:", "data:", "blob:", "chrome:", "file:")
_NOTED = 200


@dataclass
class Load:
    """One load of a document in the tab, from its request to its last byte."""

    number: str
    url: str = ""
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    """The response headers, by lower-case name."""
    redirects: list[str] = field(default_factory=list)
    error: str = ""
    """Chrome's name of the error that ended it, without `net::`; "": none."""
    committed: bool = False
    """Whether it is or was the tab's document."""
    unreachable: bool = False
    """Whether the tab shows Chrome's own error page for it."""
    ended_at: float | None = None
    """The monotonic time of its last byte, or of its failure."""
    stages: set[str] = field(default_factory=set)
    """The stages reached: DOMContentLoaded, load."""

    @property
    def is_arriving(self) -> bool:
        """Whether more of it is still to arrive over the network."""
        return self.status is not None and self.ended_at is None and not self.unreachable

    def is_coming(self, now: float) -> bool:
        """Whether it will become the tab's document; the last byte of a short page is reported before it does."""
        if self.committed or self.error or self.status in (204, 205):
            return False
        return self.ended_at is None or now - self.ended_at < _COMES_SECONDS


class Documents:
    """The state of the tab; events arrive in one thread, queries come from another."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.frame = self.session = ""
        self.notes: list[str] = []
        """What a person would have noticed beside the page: dialogs, refused downloads; one line each."""
        self.closed = self.crashed = False
        self.dialogs = self.loads = self.downloads = 0
        """Counted since the last page was requested."""
        self.moved = time.monotonic()
        self._all: dict[str, Load] = {}
        self.current = Load("")
        """The load of the tab's present document."""
        self._follows_at = 0.0
        """When the page itself (`<meta http-equiv=refresh>`) goes to another one (monotonic); 0: it does not."""
        self.unshown: Load | None = None
        """A page that was requested but did not become the tab's document."""
        self._heard: dict[str, Callable[[Parameters], None]] = {
            "Network.requestWillBeSent": self._on_request,
            "Network.responseReceived": self._on_response,
            "Network.responseReceivedExtraInfo": self._on_headers,
            "Network.loadingFinished": self._on_finished,
            "Network.loadingFailed": self._on_failed,
            "Page.frameNavigated": self._on_navigated,
            "Page.frameScheduledNavigation": self._on_plan,
            "Page.frameClearedScheduledNavigation": self._on_end_of_plan,
            "Page.lifecycleEvent": self._on_stage,
            "Page.frameStoppedLoading": self._on_stop,
            "Page.javascriptDialogOpening": self._on_dialog,
            "Page.downloadWillBegin": self._on_download,
            "Page.windowOpen": lambda told: self.note(f"another window, which is not read: {told.get('url')}"),
            "Inspector.targetCrashed": self._on_crash,
        }

    def hear(self, event: str, told: Parameters) -> None:
        """Record an EVENT of the tab."""
        if handler := self._heard.get(event):
            with self.changed:
                handler(told)
                self.changed.notify_all()

    def lost(self) -> None:
        """Record that the tab is gone."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def begin(self) -> None:
        """A page is requested: reset the counts."""
        with self.changed:
            self.dialogs = self.loads = self.downloads = 0
            self.unshown = None

    def note(self, text: str) -> None:
        """Keep TEXT as one line, once; at most 50 lines of 200 characters."""
        line = " ".join(text.split())[:_NOTED]
        if line not in self.notes and len(self.notes) < _KEPT:
            self.notes.append(line)

    def of(self, number: str) -> Load:
        """The load with the id NUMBER; an empty one when it is unknown."""
        return self._all.get(number) or Load(number)

    @property
    def pending(self) -> bool:
        """Whether another document is about to replace the present one."""
        return time.monotonic() < self._follows_at or self._is_coming()

    def _is_coming(self) -> bool:
        now = time.monotonic()
        return any(load.is_coming(now) for load in self._all.values())

    def _load(self, number: str) -> Load:
        if number not in self._all:
            self._all[number] = Load(number)
            while len(self._all) > _KEPT:
                self._all.pop(next(iter(self._all)))
        return self._all[number]

    def _of_tab(self, told: Parameters) -> Load | None:
        """The load that a network event belongs to; None for anything but the tab's own document."""
        number = str(told.get("requestId"))
        if told.get("type") == "Document" and told.get("frameId") == self.frame and number == told.get("loaderId"):
            return self._load(number)
        return None

    def _on_request(self, told: Parameters) -> None:
        url = str(told["request"]["url"])
        if not url.startswith(_PAGES) and told.get("frameId") == self.frame and told.get("type") == "Document":
            self.note(f"not followed, because it leads out of the browser: {url}")
        elif load := self._of_tab(told):
            if "redirectResponse" in told and len(load.redirects) < _KEPT:
                load.redirects.append(load.url[:2000])
            load.url = url
            self.moved = time.monotonic()

    def _on_response(self, told: Parameters) -> None:
        if load := self._of_tab(told):
            response: Any = told["response"]
            load.url = str(response["url"])
            self._answered(load, int(response["status"]), response["headers"])

    def _on_headers(self, told: Parameters) -> None:
        """Chrome drops the body of some answers (401, an empty 500) and reports only headers, but no response."""
        load = self._all.get(str(told.get("requestId")))
        if load and "statusCode" in told:
            self._answered(load, int(told["statusCode"]), told["headers"])

    def _answered(self, load: Load, status: int, headers: Any) -> None:
        load.status = status
        load.headers = {str(name).lower(): str(value)[:1000] for name, value in headers.items()}

    def _on_finished(self, told: Parameters) -> None:
        if load := self._all.get(str(told.get("requestId"))):
            load.ended_at = time.monotonic()

    def _on_failed(self, told: Parameters) -> None:
        if load := self._all.get(str(told.get("requestId"))):
            load.ended_at, load.error = time.monotonic(), str(told.get("errorText", "")).removeprefix("net::")
            if load.error == "ERR_UNEXPECTED_PROXY_AUTH":  # Chrome accepts a 407 only from proxies; it hides the status
                load.status = 407

    def _on_navigated(self, told: Parameters) -> None:
        frame: Any = told["frame"]
        if "parentId" in frame:
            return
        load = self._load(str(frame["loaderId"]))
        load.committed, load.url = True, load.url or str(frame["url"])
        if "unreachableUrl" in frame:
            load.unreachable, load.url = True, str(frame["unreachableUrl"])
        self.current = load
        self._follows_at = 0.0
        self.loads += 1
        self.moved = time.monotonic()

    def _on_plan(self, told: Parameters) -> None:
        """Note a planned navigation; a page that reloads itself does not go to another one."""
        if told.get("frameId") == self.frame:
            delay, url = float(told["delay"]), str(told["url"]).partition("#")[0]
            soon = delay <= _SOON_SECONDS and url.startswith("http") and url != self.current.url.partition("#")[0]
            self._follows_at = time.monotonic() + delay + 1 if soon else 0.0

    def _on_end_of_plan(self, told: Parameters) -> None:
        """The planned page is requested now, which is reported in a moment, or the plan was dropped."""
        if told.get("frameId") == self.frame and self._follows_at:
            self._follows_at = time.monotonic() + 1

    def _on_stage(self, told: Parameters) -> None:
        if told.get("frameId") == self.frame:
            number = str(told["loaderId"])
            if number not in self._all:
                self._load(number).committed = True  # it was loaded before these events were enabled
            self._all[number].stages.add(str(told["name"]))

    def _on_stop(self, told: Parameters) -> None:
        """Loading has ended: a link out of the browser ends it without a load event."""
        if told.get("frameId") == self.frame and not self._is_coming():
            self.current.stages |= {"DOMContentLoaded", "load"}

    def _on_dialog(self, told: Parameters) -> None:
        self.dialogs += 1
        if told.get("type") != "beforeunload":
            self.note(f"dialog ({told.get('type')}): {told.get('message')}")

    def _on_download(self, told: Parameters) -> None:
        self.downloads += 1
        self.note(f"download refused: {told.get('suggestedFilename')} of {told.get('url')}")

    def _on_crash(self, told: Parameters) -> None:
        self.crashed = True
