"""The one tab of a browser as a target of DevTools: what Chrome tells of it is kept, commands are sent to it."""

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
"""A page may take this long for one answer; then the browser itself is asked whether it is there, a third as long."""
_OWN_PAGES = re.compile(r"chrome(-untrusted)?://[\w-]+\.top-chrome/|chrome-extension://|devtools://")
"""Parts of Chrome's window that are pages themselves, such as the list below its address bar: nobody's requests."""
_SMALL = {"maxTotalBufferSize": 1_000_000, "maxResourceBufferSize": 100_000, "maxPostDataSize": 0}
"""Bodies that nobody asks for stay in Chrome otherwise, up to 100 MB of them (Network.enable)."""
_EMPTY_PAGE = base64.b64encode(b"<!doctype html><link rel=icon href=data:,>").decode()
_ATTACH = {"autoAttach": True, "waitForDebuggerOnStart": True, "flatten": True}
"""Every target that comes to be waits until its requests are counted from the first."""


def _instead(told: Parameters) -> Command:
    """What a paused request is answered with while somebody stands in for the sites."""
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
        # A page's downloads would lie in the worker's home for ever; the policy refuses them too.
        self._browser("Browser.setDownloadBehavior", {"behavior": "deny", "eventsEnabled": True})

    def _hear(self, session: str, event: str, told: Parameters) -> None:
        """In the connection's thread: nothing here waits for the browser."""
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
            self._post(*_instead(told))
            return
        document, frame = self.documents.current.url, self.documents.frame
        if command := self._passwords.react(event, told, frame=frame, document=document):
            self._post(*command)
            return
        if event == "Page.frameNavigated" and "parentId" not in told["frame"]:
            self.counter.leave(str(told["frame"]["loaderId"]))
        if event == "Page.javascriptDialogOpening":
            # As a person does who only looks: read, close, decline. A page may be left.
            accept = told.get("type") in ("alert", "beforeunload")
            self._post("Page.handleJavaScriptDialog", {"accept": accept})
        elif event == "Page.frameNavigated" and self.documents.loads >= MOST_LOADS:
            self._post("Emulation.setScriptExecutionDisabled", {"value": True})
            self._post("Page.stopLoading")
            if self.documents.loads > MOST_LOADS + 3:  # it needs no script for that
                self._post("Page.navigate", {"url": "about:blank"})

    @contextlib.contextmanager
    def standing_in(self) -> Iterator[None]:
        """Every page that is opened meanwhile is an empty one; its site is asked nothing, and nothing is counted."""
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

    def _post(self, method: str, parameters: Parameters | None = None) -> None:
        self._connection.post(method, parameters, session=self.documents.session)

    def command(self, method: str, parameters: Parameters | None = None, *, seconds: float = ANSWER_SECONDS) -> Any:
        """What METHOD gives for the tab; raises PageFailed (the page keeps Chrome busy), BrowserDied, Refused."""
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
            self._post("Runtime.terminateExecution")  # what keeps the page busy ends: it can be looked at
            raise PageFailed(self.documents.current.url, "BUSY") from error

    def press(self, method: str, parameters: Parameters) -> None:
        """The same without waiting for its end."""
        self._post(method, parameters)

    def acknowledged(self, method: str, parameters: Parameters, *, seconds: float = 2) -> None:
        """The same, waiting for its end for a moment: what an input leads to (a new page, a dialog) may swallow it."""
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
        """Raise BrowserDied for a browser that answers nothing at all."""
        try:
            self._connection.call("Browser.getVersion", seconds=self.answer_seconds / 3)
        except (Silent, Gone, Refused) as error:
            raise BrowserDied(f"the browser does not answer: {error}") from error

    def refuse_lost(self) -> None:
        """Raise PageFailed for a window that its page closed, BrowserDied for a tab that crashed."""
        if self.documents.crashed:
            raise BrowserDied("the browser's tab has crashed")
        if self.documents.closed:
            self._refuse_frozen()
            raise PageFailed(self.documents.current.url, "WINDOW_CLOSED")

    def close(self) -> None:
        """The connection ends."""
        self._connection.close()

    def pause(self, seconds: float) -> None:
        """Before something is looked at again; raises BrowserDied when the browser says nothing any more."""
        if time.monotonic() - self._connection.heard_at > self.answer_seconds:
            self._refuse_frozen()
        self._never.wait(seconds)
