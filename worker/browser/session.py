"""Starts and ends one browser session, for both drivers. commands.py has what is done in it."""

from __future__ import annotations

import contextlib
import errno
import re
import socket
from collections.abc import Callable
from types import ModuleType

import selenium.common.exceptions as wrong
from selenium.webdriver.remote.remote_connection import RemoteConnection
from selenium.webdriver.remote.webdriver import WebDriver
from urllib3.exceptions import HTTPError

from fleet import log
from fleet.errors import BrowserDied, BrowserStartFailed
from fleet.model import BrowserSettings, Worker
from worker.browser import plain, reap
from worker.browser.commands import Browser
from worker.browser.folder import Folder
from worker.browser.interface import Installed
from worker.browser.passwords import Passwords
from worker.browser.tab import Tab
from worker.browser.watchdog import Watchdog
from worker.logins import NONE, Logins

_NOISE = re.compile(
    r"dbus|DevTools listening|unexpected operator|^#\d|^\s*$|Starting ChromeDriver|suggestions on keeping"
)
"""Lines that Chrome and ChromeDriver write at every start, or that do not help a person."""
_log = log.get("worker")


def _module(driver: str) -> ModuleType:
    """The module that starts the browser; undetected-chromedriver may be missing (bin/setup --without-undetected)."""
    if driver == "selenium":
        return plain
    from worker.browser import undetected

    return undetected


class Session(Browser, contextlib.AbstractContextManager["Session"]):
    """A running Chrome; its exit ends it for certain."""

    def __init__(
        self,
        settings: BrowserSettings,
        installed: Installed,
        *,
        uid: int,
        turn: Callable[[], contextlib.AbstractContextManager[None]],
        before_open: Callable[[str], None] = lambda _: None,
        logins: Logins = NONE,
    ) -> None:
        """TURN is held while the browser starts. BEFORE_OPEN is called with each address to open, and may raise."""
        super().__init__(settings.page_load_timeout_seconds, settings.patience, before_open)
        self._settings, self._logins = settings, logins
        self._kind = _module(settings.driver)
        self._driver: WebDriver | None = None
        self._folder = Folder(settings, installed, Worker(uid=uid).browser_ports)
        try:
            with turn():
                self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        ports = self._folder.start.ports
        _refuse_taken(*ports)
        watchdog = Watchdog(self._folder, self._settings.start_timeout_seconds)
        try:
            with watchdog:
                self._driver = self._kind.start(self._folder.start)
                self._connected = Tab(ports.devtools, self._counter, self._settings, Passwords(self._logins.passwords))
        except (wrong.WebDriverException, HTTPError, OSError, BrowserDied) as error:
            reason = watchdog.reason or _first_line(error)
            messages = self._folder.messages()
            _log.debug("browser.messages", messages=messages)
            tail = [line for line in messages.splitlines() if not _NOISE.search(line)][-3:]
            hint = "try it by hand: fleet doctor, or the browser under the worker's account"
            raise BrowserStartFailed("; ".join([f"the browser did not start: {reason}", *tail]), hint=hint) from error

    def close(self) -> None:
        """End the browser: all its processes, its profile, its temporary files. Never raises."""
        driver, self._driver = self._driver, None
        tab, self._connected = self._connected, None
        try:
            reap.end_descendants()
        except Exception:  # noqa: BLE001 - an error here must not hide the one that led to the end
            _log.exception("browser.left_over")
        if tab is not None:
            tab.close()
        if driver is not None:
            self._kind.forget(driver)
            with contextlib.suppress(wrong.WebDriverException, HTTPError, OSError):
                # The driver library leaves the pipe of its process to the garbage collector.
                if (pipe := driver.service.process.stdin) is not None:  # type: ignore[attr-defined]
                    pipe.close()
                assert isinstance(driver.command_executor, RemoteConnection)
                driver.command_executor.close()  # type: ignore[no-untyped-call]
        self._folder.remove()

    def __exit__(self, *_: object) -> None:
        self.close()


def _refuse_taken(*ports: int) -> None:
    """Refuse ports that another program has: it would be taken for our browser."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                taken = error.errno == errno.EADDRINUSE
                words = "is taken" if taken else "cannot be used"
                raise BrowserStartFailed(
                    f"port {port} of loopback, the browser's own, {words}: {error.strerror}",
                    hint=f"who has it: ss -ltnp sport = :{port}" if taken else "ip route show table local dev lo",
                ) from error


def _first_line(error: BaseException) -> str:
    text = str(getattr(error, "msg", None) or error) or type(error).__name__
    return text.splitlines()[0]
