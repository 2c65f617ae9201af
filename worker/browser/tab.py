"""The one tab of a browser: loads and judges documents, and queries them in an isolated world."""

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
        """Request URL and wait until its document is in the tab; raises PageFailed or Answered."""
        if self.documents.loads >= MOST_LOADS:
            self.post("Emulation.setScriptExecutionDisabled", {"value": False})
        self.documents.begin()
        before = self.counter.losses.network_changed
        try:
            answer = self.command("Page.navigate", {"url": url}, seconds=seconds)
        except Refused as error:
            raise PageFailed(url, "ERR_INVALID_URL") from error
        except PageFailed as error:
            if error.code == "TIMEOUT":
                self.post("Page.stopLoading")
                raise PageFailed(url, "TIMEOUT") from None
            raise
        code = str(answer.get("errorText", "")).removeprefix("net::")
        if not code:
            self._arrived(str(answer.get("loaderId", "")))
            return
        load = self.documents.of(str(answer.get("loaderId", "")))
        load.url = load.url or url
        self.documents.unshown = load
        with self.documents.changed:  # Chrome's error page, if there is one, replaces the present document
            self.documents.changed.wait_for(lambda: self.documents.current.unreachable, timeout=_ERROR_PAGE_SECONDS)
        if answer.get("isDownload") or self.documents.downloads:
            raise PageFailed(url, "DOWNLOAD")
        if load.status in (204, 205):
            raise PageFailed(url, "NO_CONTENT")
        if load.status is not None:
            answers.judge(url, load.status, load.headers)  # for a refusal without a body
        if code == NETWORK_CHANGED and self.counter.losses.network_changed == before:
            self.counter.add(Losses(network_changed=1))  # no event reported it
        raise PageFailed(url, code)

    def _arrived(self, number: str) -> None:
        """Wait until the load NUMBER is, or was, the tab's document: a command's answer may overtake the event."""
        with self.documents.changed:
            self.documents.changed.wait_for(
                lambda: not number or self.documents.of(number).committed or bool(self.documents.of(number).error),
                timeout=ANSWER_SECONDS,
            )

    def judge(self) -> Load:
        """The load of the present document; raises PageFailed or Answered unless it is a complete, intended page."""
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
            raise PageFailed(load.url, load.error)  # the document was cut off: half a page does not count
        return load

    def late(self) -> PageFailed:
        """Stop loading the next page, so that the present one can be read; returns the error to raise."""
        self.post("Page.stopLoading")
        return PageFailed(self.documents.current.url, "TIMEOUT")

    def until(self, ready: Callable[[], bool], *, seconds: float, look: float = 0.05) -> bool:
        """Whether READY becomes true within SECONDS; it is called every LOOK seconds, which costs the page a little."""
        deadline = time.monotonic() + seconds
        while True:
            self.judge_soon()
            if ready():
                return True
            if (left := deadline - time.monotonic()) <= 0:
                return False
            self.pause(min(look, left))

    def judge_soon(self) -> None:
        """Raise at once for what waiting cannot cure: a lost tab, a page that was cut off, endless dialogs or loads."""
        self.refuse_lost()
        cut = self.documents.current.error not in ("", ABORTED) and not self.documents.pending
        if cut or self.documents.dialogs > MOST_DIALOGS or self.documents.loads >= MOST_LOADS:
            self.judge()

    # --- questions

    def ask(self, name: str, *given: object) -> Any:
        """The result of the function NAME of our scripts; raises ConfigurationError for an invalid selector."""
        for _ in range(20):
            try:
                return self._ask(name, given)
            except Refused as error:
                # The document was replaced meanwhile: ask the next one.
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
        """The isolated world of the present document, made if there is none."""
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
        """The result of SCRIPT, the body of a function, in the page's own world; a promise is awaited."""
        call = {"expression": f"(function () {{ {script}\n }}).apply(null, {json.dumps(arguments)})"}
        answer = self.command("Runtime.evaluate", {**call, "returnByValue": True, "awaitPromise": True}, seconds=60)
        if "exceptionDetails" in answer:
            told = answer["exceptionDetails"].get("exception", {}).get("description", "")
            raise PageFailed(self.documents.current.url, f"SCRIPT ({str(told).splitlines()[0][:200] if told else ''})")
        return answer["result"].get("value")
