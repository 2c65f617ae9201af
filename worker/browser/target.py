"""The one tab of a browser as a DevTools target: records its events, sends it commands."""

from __future__ import annotations

import base64
import contextlib
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

from fleet.errors import BrowserDied, PageFailed
from fleet.model import BrowserSettings
from worker.browser import window
from worker.browser.cdp import Command, Connection, Gone, Parameters, Refused, Silent
from worker.browser.count import Counter
from worker.browser.document import MOST_LOADS, Documents
from worker.browser.passwords import Passwords

ANSWER_SECONDS = 12.0
"""How long a page may take for one answer; then the browser itself is asked whether it lives, for a third of this."""
_OWN_PAGES = re.compile(r"chrome(-untrusted)?://[\w-]+\.top-chrome/|chrome-extension://|devtools://")
"""Parts of Chrome's window that are pages themselves, such as the list below its address bar; they are not counted."""
_SMALL = {"maxTotalBufferSize": 1_000_000, "maxResourceBufferSize": 100_000, "maxPostDataSize": 0}
"""Chrome would otherwise keep up to 100 MB of bodies, which are never read (Network.enable)."""
_EMPTY_PAGE = base64.b64encode(b"<!doctype html><link rel=icon href=data:,>").decode()
_ATTACH = {"autoAttach": True, "waitForDebuggerOnStart": True, "flatten": True}
"""Every new target waits until its events are enabled, so that all its requests are counted."""


def _instead(told: Parameters) -> Command:
    """The answer to a paused request in standing_in(): an empty page for a document, else a failure."""
    if told.get("resourceType") != "Document":
        return "Fetch.failRequest", {"requestId": told["requestId"], "errorReason": "Aborted"}
    kind = [{"name": "Content-Type", "value": "text/html"}]
    return "Fetch.fulfillRequest", {
        "requestId": told["requestId"],
        "responseCode": 200,
        "responseHeaders": kind,
        "body": _EMPTY_PAGE,
    }


class Target:
    """Connects to the browser at PORT and takes its first tab."""

    def __init__(self, port: int, counter: Counter, settings: BrowserSettings, passwords: Passwords) -> None:
        self.answer_seconds = ANSWER_SECONDS
        self._passwords = passwords
        self._stands_in = False
        self.settings = settings
        self.documents = Documents()
        self.counter = counter
        self._pages: list[str] = []
        self._never = threading.Event()
        self._connection = Connection(port, self._hear)
        try:
            self._take()
        except (Refused, Silent, Gone) as error:
            self.close()
            raise BrowserDied(f"the browser does not answer: {error}") from error

    def _take(self) -> None:
        name = str(self._browser("Browser.getVersion")["userAgent"]) if self.settings.mobile else ""
        self._everywhere = (("Network.enable", _SMALL), *window.everywhere(self.settings, name))
        self._browser("Target.setAutoAttach", _ATTACH)
        with self.documents.changed:
            self.documents.changed.wait_for(lambda: bool(self._pages), timeout=ANSWER_SECONDS)
        if not self._pages:
            raise BrowserDied("the browser has no tab")
        self.documents.session = self._pages[0]
        tree = self._plain("Page.getFrameTree")
        self.documents.frame = str(tree["frameTree"]["frame"]["id"])
        for method, parameters in (
            ("Page.enable", {}),
            ("Page.setLifecycleEventsEnabled", {"enabled": True}),
            ("Inspector.enable", {}),
            *window.of_tab(self.settings),
            *self._passwords.commands(),
        ):
            self._plain(method, parameters)
        # Downloads would stay in the worker's home forever; the policy refuses them too.
        self._browser("Browser.setDownloadBehavior", {"behavior": "deny", "eventsEnabled": True})

    def _hear(self, session: str, event: str, told: Parameters) -> None:
        """Runs in the connection's thread: it must not wait for the browser."""
        if event == "closed":
            self.documents.lost()
        elif event == "Target.attachedToTarget":
            self._on_target(str(told["sessionId"]), told["targetInfo"])
        elif event == "Target.detachedFromTarget":
            if told.get("sessionId") == self.documents.session:
                self.documents.lost()
        else:
            self.counter.hear(event, told)
            if session == self.documents.session:
                self.documents.hear(event, told)
                self._react(event, told)

    def _on_target(self, session: str, target: Any) -> None:
        if _OWN_PAGES.match(str(target["url"])):
            self._connection.post("Runtime.runIfWaitingForDebugger", session=session)
            self._connection.post("Target.detachFromTarget", {"sessionId": session})
            return
        for method, parameters in self._everywhere:
            self._connection.post(method, parameters, session=session)
        self._connection.post("Target.setAutoAttach", _ATTACH, session=session)
        self._connection.post("Runtime.runIfWaitingForDebugger", session=session)
        if target["type"] == "page":
            with self.documents.changed:
                self._pages.append(session)
                self.documents.changed.notify_all()

    def _react(self, event: str, told: Parameters) -> None:
        if self._stands_in and event == "Fetch.requestPaused":
            self.post(*_instead(told))
            return
        document, frame = self.documents.current.url, self.documents.frame
        if command := self._passwords.react(event, told, frame=frame, document=document):
            self.post(*command)
            return
        if event == "Page.frameNavigated" and "parentId" not in told["frame"]:
            self.counter.leave(str(told["frame"]["loaderId"]))
        if event == "Page.javascriptDialogOpening":
            # Like a person who only looks: close alerts, decline questions. Leaving a page is allowed.
            accept = told.get("type") in ("alert", "beforeunload")
            self.post("Page.handleJavaScriptDialog", {"accept": accept})
        elif event == "Page.frameNavigated" and self.documents.loads >= MOST_LOADS:
            self.post("Emulation.setScriptExecutionDisabled", {"value": True})
            self.post("Page.stopLoading")
            if self.documents.loads > MOST_LOADS + 3:  # it reloads without scripts
                self.post("Page.navigate", {"url": "about:blank"})

    @contextlib.contextmanager
    def standing_in(self) -> Iterator[None]:
        """In the block every opened page is replaced by an empty one, without asking its site or counting requests."""
        counted = self.counter.losses
        self.command("Network.setBypassServiceWorker", {"bypass": True})
        self.command("Fetch.disable")
        self.command("Fetch.enable", {"patterns": [{"urlPattern": "*"}]})
        self._stands_in = True
        try:
            yield
        finally:
            self._stands_in = False
            self.command("Fetch.disable")
            for method, parameters in self._passwords.commands():
                self.command(method, parameters)
            self.command("Network.setBypassServiceWorker", {"bypass": False})
            self.counter.go_back(counted)

    # --- commands

    def _browser(self, method: str, parameters: Parameters | None = None) -> Any:
        return self._connection.call(method, parameters, seconds=ANSWER_SECONDS)

    def _plain(self, method: str, parameters: Parameters | None = None, seconds: float = ANSWER_SECONDS) -> Any:
        return self._connection.call(method, parameters, session=self.documents.session, seconds=seconds)

    def command(self, method: str, parameters: Parameters | None = None, *, seconds: float = ANSWER_SECONDS) -> Any:
        """The result of METHOD for the tab; raises PageFailed (the page keeps Chrome busy), BrowserDied, Refused."""
        self.refuse_lost()
        deadline = time.monotonic() + seconds
        try:
            answer = self._connection.begin(method, parameters, session=self.documents.session)
            while (left := deadline - time.monotonic()) > self.answer_seconds:
                with contextlib.suppress(Silent):
                    return answer.result(self.answer_seconds)
                self._refuse_frozen()
            return answer.result(max(0.0, left))
        except Gone as error:
            self.refuse_lost()
            raise BrowserDied(f"the browser does not answer: {error}") from error
        except Silent as error:
            self.refuse_lost()
            self._refuse_frozen()
            if method == "Page.navigate":
                raise PageFailed(self.documents.current.url, "TIMEOUT") from error
            self.post("Runtime.terminateExecution")  # end the script that keeps the page busy, so that it can be read
            raise PageFailed(self.documents.current.url, "BUSY") from error

    def post(self, method: str, parameters: Parameters | None = None) -> None:
        """Send METHOD to the tab without waiting, whatever comes of it."""
        self._connection.post(method, parameters, session=self.documents.session)

    def acknowledged(self, method: str, parameters: Parameters, *, seconds: float = 2) -> None:
        """Send METHOD and wait briefly for its answer, which a new page or a dialog after an input may swallow."""
        try:
            self._plain(method, parameters, seconds)
        except Refused:
            self.refuse_lost()
        except Silent:
            self.refuse_lost()
            self._refuse_frozen()
        except Gone as error:
            raise BrowserDied(f"the browser does not answer: {error}") from error

    def _refuse_frozen(self) -> None:
        """Raise BrowserDied when the browser itself does not answer."""
        try:
            self._connection.call("Browser.getVersion", seconds=self.answer_seconds / 3)
        except (Silent, Gone, Refused) as error:
            raise BrowserDied(f"the browser does not answer: {error}") from error

    def refuse_lost(self) -> None:
        """Raise PageFailed when the page has closed its window, BrowserDied when the tab has crashed."""
        if self.documents.crashed:
            raise BrowserDied("the browser's tab has crashed")
        if self.documents.closed:
            self._refuse_frozen()
            raise PageFailed(self.documents.current.url, "WINDOW_CLOSED")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def pause(self, seconds: float) -> None:
        """Wait SECONDS before another look; raises BrowserDied when the browser no longer answers."""
        if time.monotonic() - self._connection.heard_at > self.answer_seconds:
            self._refuse_frozen()
        self._never.wait(seconds)
