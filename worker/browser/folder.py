"""The folder of one browser session: two wrapper programs, the profile, temporary files, the programs' messages.

It lies in the worker's private /tmp, a tmpfs that the kernel frees when the worker's last process ends.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import threading
from collections import deque
from pathlib import Path

from fleet.model import BrowserSettings
from fleet.numbers import BrowserPorts
from worker.browser import switches, wrap
from worker.browser.interface import Installed, Start

KEPT_BYTES = 16_384
"""How much of Chrome's newest messages is kept for an error's text."""
_numbers = itertools.count(1)


class Folder:
    """Makes the session's folder, and reads the messages of its programs until remove()."""

    def __init__(self, settings: BrowserSettings, installed: Installed, ports: BrowserPorts) -> None:
        # No mkdtemp: a random name may contain `lang`, which undetected-chromedriver would interpret.
        self.path = Path(tempfile.gettempdir()) / f"b{os.getpid()}-{next(_numbers)}"
        self.path.mkdir(mode=0o700)
        for name in ("profile", "t", "home"):
            (self.path / name).mkdir(mode=0o700)
        self._clock = {"TZ": settings.time_zone} if settings.time_zone else {}
        self._messages = {name: _Messages(self.path / f"{name}.messages") for name in ("chrome", "driver")}
        self.start = Start(
            settings=settings,
            installed=installed,
            ports=ports,
            folder=self.path,
            browser=self._wrapper("chrome", installed.browser, switches.add(settings), switches.DROP),
            driver=self._wrapper("driver", installed.driver, [], ()),
        )

    def _wrapper(self, name: str, program: Path, add: list[str], drop: tuple[str, ...]) -> Path:
        path = self.path / name
        text = wrap.script(
            program,
            add,
            drop=drop,
            log=self._messages[name].path,
            pid=self.path / f"{name}.pid",
            # TMPDIR is short: Chrome's sockets are below it, and a socket's path has at most 108 bytes.
            # HOME is in the session's folder: files beside the profile (certificates, crash reports) are removed too.
            environment={"TMPDIR": str(self.path / "t"), "HOME": str(self.path / "home"), **self._clock},
        )
        path.write_text(text, encoding="utf-8")
        path.chmod(0o700)
        return path

    @property
    def browser_pid(self) -> int | None:
        """The pid of the browser; None before its wrapper has run."""
        try:
            return int((self.path / "chrome.pid").read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            return None

    def messages(self) -> str:
        """The newest messages of the browser, or the driver's if the browser wrote none."""
        return self._messages["chrome"].text() or self._messages["driver"].text()

    def remove(self) -> None:
        """End the readers and remove the folder; the session's processes must have ended before."""
        for messages in self._messages.values():
            messages.close()
        shutil.rmtree(self.path, ignore_errors=True)


class _Messages:
    """A FIFO that is read all the time: a writer cannot block for long, and no file grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path, 0o600)
        # Opened for reading and writing, so that there is no end of file between two writers.
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._kept: deque[bytes] = deque(maxlen=KEPT_BYTES // 512)
        self._closing = False
        self._thread = threading.Thread(target=self._read, name="messages", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._closing:
            self._kept.append(os.read(self._descriptor, 65_536)[-512:])

    def text(self) -> str:
        return b"".join(self._kept.copy()).decode(errors="replace").strip()

    def close(self) -> None:
        self._closing = True
        os.write(self._descriptor, b"\n")  # wakes the reader, which is the only one left
        self._thread.join()
        os.close(self._descriptor)
