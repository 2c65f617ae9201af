"""The one tab of a browser: its documents, loaded and judged, and questions to them in an isolated world."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fleet.errors import BrowserDied, ConfigurationError, PageFailed
from fleet.model import BrowserSettings
from fleet.result import Losses
from worker import answers
from worker.browser.cdp import Refused
from worker.browser.count import ABORTED, NETWORK_CHANGED, Counter
from worker.browser.document import MOST_DIALOGS, MOST_LOADS, Load
from worker.browser.passwords import Passwords
from worker.browser.target import ANSWER_SECONDS, Target

_ERROR_PAGE_SECONDS = 0.5
_WORLD = "fleet"
_READING = "".join(
    Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("seeing.js", "reading.js", "hands.js")
)
_CONTEXT_GONE = re.compile(r"[Cc]ontext|No frame|navigated|Cannot find|Inspected target")


class Tab(Target):
    """The first tab of the browser at PORT."""

    def __init__(self, port: int, counter: Counter, settings: BrowserSettings, passwords: Passwords) -> None:
        super().__init__(port, counter, settings, passwords)
        self._world: tuple[str, int] = ("", 0)

    # --- documents

    def go(self, url: str, *, seconds: float) -> None:
        """Ask for URL until its document stands; raises PageFailed."""
        if self.documents.loads >= MOST_LOADS:
            self._post("Emulation.setScriptExecutionDisabled", {"value": False})
        self.documents.begin()
        before = self.counter.losses.network_changed
        try:
            answer = self.command("Page.navigate", {"url": url}, seconds=seconds)
        except Refused as error:
            raise PageFailed(url, "ERR_INVALID_URL") from error
        except PageFailed as error:
            if error.code == "TIMEOUT":
                self._post("Page.stopLoading")
                raise PageFailed(url, "TIMEOUT") from None
            raise
        code = str(answer.get("errorText", "")).removeprefix("net::")
        if not code:
            self._arrived(str(answer.get("loaderId", "")))
            return
        load = self.documents.of(str(answer.get("loaderId", "")))
        load.url = load.url or url
        self.documents.unshown = load
        with self.documents.changed:  # Chrome's own error page replaces the one before, if there is to be one
            self.documents.changed.wait_for(lambda: self.documents.current.unreachable, timeout=_ERROR_PAGE_SECONDS)
        if answer.get("isDownload") or self.documents.downloads:
            raise PageFailed(url, "DOWNLOAD")
        if load.status in (204, 205):
            raise PageFailed(url, "NO_CONTENT")
        if load.status is not None:
            answers.judge(url, load.status, load.headers)  # a refusal without a body is a refusal
        if code == NETWORK_CHANGED and self.counter.losses.network_changed == before:
            self.counter.add(Losses(network_changed=1))  # no event told of it
        raise PageFailed(url, code)

    def _arrived(self, number: str) -> None:
        """The load of that NUMBER stands, or stood, in the tab: the answer to a command may overtake the event."""
        with self.documents.changed:
            self.documents.changed.wait_for(
                lambda: not number or self.documents.of(number).committed or bool(self.documents.of(number).error),
                timeout=ANSWER_SECONDS,
            )

    def judge(self) -> Load:
        """What stands in the tab; raises PageFailed or Answered for anything but a whole page that was meant."""
        self.refuse_lost()
        load = self.documents.current
        if self.documents.dialogs > MOST_DIALOGS:
            raise PageFailed(load.url, "DIALOGS")
        if self.documents.loads >= MOST_LOADS:
            raise PageFailed(load.url, "RELOADS")
        if load.status is not None:
            answers.judge(load.url, load.status, load.headers)
        if load.unreachable:
            raise PageFailed(load.url, load.error or "ERR_UNKNOWN")
        if load.error not in ("", ABORTED):
            raise PageFailed(load.url, load.error)  # cut in the middle: half a page is no page
        return load

    def late(self) -> PageFailed:
        """Nobody waits for the next page any more: what stands can be looked at then."""
        self._post("Page.stopLoading")
        return PageFailed(self.documents.current.url, "TIMEOUT")

    def until(self, ready: Callable[[], bool], *, seconds: float, look: float = 0.05) -> bool:
        """Whether READY comes to hold within SECONDS; it is asked every LOOK seconds, and costs the page a little."""
        deadline = time.monotonic() + seconds
        while True:
            self.judge_soon()
            if ready():
                return True
            if (left := deadline - time.monotonic()) <= 0:
                return False
            self.pause(min(look, left))

    def judge_soon(self) -> None:
        """What needs no waiting to be told: raises for a lost tab, a cut page, dialogs and loads without end."""
        self.refuse_lost()
        cut = self.documents.current.error not in ("", ABORTED) and not self.documents.pending
        if cut or self.documents.dialogs > MOST_DIALOGS or self.documents.loads >= MOST_LOADS:
            self.judge()

    # --- questions

    def ask(self, name: str, *given: object) -> Any:
        """What the script's function NAME gives; raises ConfigurationError for a selector that is none."""
        for _ in range(20):
            try:
                return self._ask(name, given)
            except Refused as error:
                # The document was replaced under the question; the next one is asked.
                if not _CONTEXT_GONE.search(str(error)):
                    raise BrowserDied(f"the browser does not answer: {error}") from error
                self._world = ("", 0)
                with self.documents.changed:
                    self.documents.changed.wait(0.05)
        raise PageFailed(self.documents.current.url, "RELOADS")

    def _ask(self, name: str, given: tuple[object, ...]) -> Any:
        call = {
            "functionDeclaration": "function (name, given) { return ask(name, given); }",
            "arguments": [{"value": name}, {"value": list(given)}],
            "executionContextId": self._in_world(),
            "returnByValue": True,
        }
        answer = self.command("Runtime.callFunctionOn", call)
        if "exceptionDetails" in answer:
            raise Refused(f"context: {answer['exceptionDetails'].get('text')}")
        value = answer["result"].get("value", {})
        if "error" not in value:
            return value.get("value")
        if value["error"] == "SyntaxError":
            raise ConfigurationError(
                f"task.options: {value['message'].partition(': ')[2] or value['message']}",
                hint="selectors are CSS: `#q`, `.item .price`, `a[href*=offer]`",
            )
        raise PageFailed(self.documents.current.url, f"UNREADABLE ({value['message'][:200]})")

    def _in_world(self) -> int:
        """The isolated world of the document that stands now, made when there is none."""
        loader = self.documents.current.number
        if self._world[0] != loader or not loader:
            made = self.command(
                "Page.createIsolatedWorld",
                {"frameId": self.documents.frame, "worldName": _WORLD, "grantUniveralAccess": False},
            )
            context = int(made["executionContextId"])
            self.command("Runtime.evaluate", {"expression": _READING, "contextId": context})
            self._world = (loader, context)
        return self._world[1]

    def evaluate(self, script: str, arguments: tuple[object, ...]) -> Any:
        """What SCRIPT, the body of a function, gives in the page's own world; a promise is waited for."""
        call = {"expression": f"(function () {{ {script}\n }}).apply(null, {json.dumps(arguments)})"}
        answer = self.command("Runtime.evaluate", {**call, "returnByValue": True, "awaitPromise": True}, seconds=60)
        if "exceptionDetails" in answer:
            told = answer["exceptionDetails"].get("exception", {}).get("description", "")
            raise PageFailed(self.documents.current.url, f"SCRIPT ({str(told).splitlines()[0][:200] if told else ''})")
        return answer["result"].get("value")
