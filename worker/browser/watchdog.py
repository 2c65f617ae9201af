"""Ends a browser start that cannot succeed: the browser has ended already, or the time is over.

ChromeDriver waits a minute for a browser that died in its first millisecond, and the libraries above wait
with it. Killing everything makes them fail at once; `reason` holds the cause.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time

from fleet.machine.processes import Handle
from worker.browser import reap
from worker.browser.folder import Folder

_LOOK_SECONDS = 0.1


class Watchdog:
    """Watches during its `with` block; afterwards `reason` says why it killed the start, "" if it did not."""

    def __init__(self, folder: Folder, seconds: float) -> None:
        self.reason = ""
        self._folder = folder
        self._seconds = seconds
        self._done_reader, self._done_writer = os.pipe()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._done_writer)
        self._thread.join()
        os.close(self._done_reader)

    def _watch(self) -> None:
        deadline = time.monotonic() + self._seconds
        browser: Handle | None = None
        with contextlib.ExitStack() as stack:
            while not self.reason:
                left, gone = deadline - time.monotonic(), False
                try:
                    # The pid is known once the wrapper has run.
                    if browser is None and (pid := self._folder.browser_pid) is not None:
                        browser = stack.enter_context(Handle(pid))
                except ProcessLookupError:
                    left, gone = 0.0, True
                watched: list[int | Handle] = [self._done_reader, *([browser] if browser else [])]
                ready, _, _ = select.select(watched, [], [], max(0.0, left if browser else min(left, _LOOK_SECONDS)))
                if self._done_reader in ready:
                    return
                if gone or browser in ready:
                    self.reason = "it ended at once"
                elif time.monotonic() >= deadline:
                    self.reason = f"it was not ready within {self._seconds:g} s"
            self._kill_until_done()

    def _kill_until_done(self) -> None:
        """Kill repeatedly, because the driver library may start its next program after the first time."""
        while not select.select([self._done_reader], [], [], _LOOK_SECONDS)[0]:
            reap.kill_descendants(time.monotonic() + 1)
