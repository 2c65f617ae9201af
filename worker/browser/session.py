"""One browser session over WebDriver, the same for both drivers: start, commands, certain end."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Callable, Iterator
from types import ModuleType

import selenium.common.exceptions as wrong
from pydantic import JsonValue
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.remote_connection import RemoteConnection
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait
from urllib3.exceptions import HTTPError

from fleet import log
from fleet.errors import BrowserDied, BrowserStartFailed, ElementMissing, PageFailed
from fleet.model import BrowserSettings, Worker
from fleet.result import Losses
from worker.browser import plain, reap
from worker.browser.count import NETWORK_CHANGED, Counter
from worker.browser.folder import Folder
from worker.browser.interface import Installed
from worker.browser.watchdog import Watchdog

_ERROR_NAME = re.compile(r"ERR_[A-Z0-9_]+")
_COMMAND_MARGIN_SECONDS = 15
"""A command may take this much longer than a page load before the browser counts as frozen."""
_SETTLE_SECONDS = 1.0
_log = log.get("worker")


def _module(driver: str) -> ModuleType:
    """What moves the browser; undetected-chromedriver may not be installed (bin/setup --without-undetected)."""
    if driver == "selenium":
        return plain
    from worker.browser import undetected

    return undetected


class Session:
    """A running Chrome (see interface.Browser); a context manager whose exit is the certain end."""

    def __init__(
        self,
        settings: BrowserSettings,
        installed: Installed,
        *,
        uid: int,
        turn: Callable[[], contextlib.AbstractContextManager[None]],
    ) -> None:
        """TURN is held while the browser starts."""
        self._settings = settings
        self._kind = _module(settings.driver)
        self._counter = Counter()
        self._counted = 0.0
        self._lost_before = 0
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
        _refuse_taken(ports.driver, *([ports.devtools] if self._settings.driver == "undetected" else []))
        watchdog = Watchdog(self._folder, self._settings.start_timeout_seconds)
        try:
            with watchdog:
                self._driver = self._kind.start(self._folder.start)
                self._prepare(self._driver)
        except (wrong.WebDriverException, HTTPError, OSError) as error:
            reason = watchdog.reason or _first_line(error)
            tail = self._folder.messages().splitlines()[-3:]
            raise BrowserStartFailed(
                "; ".join([f"the browser did not start: {reason}", *tail]),
                hint="try it by hand: fleet doctor, or the browser under the worker's account",
            ) from error

    def _prepare(self, driver: WebDriver) -> None:
        client = _remote(driver).client_config
        # A frozen browser answers nothing: the client gives up soon after the page's own limit.
        client.timeout = self._settings.page_load_timeout_seconds + _COMMAND_MARGIN_SECONDS
        client.websocket_interval = 0.01  # selenium looks for a BiDi answer this often; its default is 0.1 s
        driver.set_page_load_timeout(self._settings.page_load_timeout_seconds)
        self._counter.listen(driver.network)

    @contextlib.contextmanager
    def _command(self) -> Iterator[WebDriver]:
        """The driver for one command; whatever means that the browser is gone becomes BrowserDied."""
        if self._driver is None:
            raise BrowserDied("the browser is closed")
        try:
            yield self._driver
        except (wrong.TimeoutException, wrong.NoSuchElementException, wrong.StaleElementReferenceException):
            raise
        except (wrong.WebDriverException, HTTPError, OSError) as error:
            raise BrowserDied(f"the browser does not answer: {_first_line(error)}") from error

    def open(self, url: str) -> None:
        self._lost_before = self._counter.losses.network_changed
        with self._command() as driver:
            try:
                driver.get(url)
            except wrong.TimeoutException:
                raise PageFailed(url, "TIMEOUT") from None
            except wrong.WebDriverException as error:
                # ChromeDriver raises for the codes -100 to -189 alone.
                found = _ERROR_NAME.search(str(error))
                if found is None:
                    raise
                raise PageFailed(url, found[0]) from error
            self._refuse_error_page(driver, url, self._lost_before)
            self._count_page()

    def _count_page(self) -> None:
        """One more page, unless it is the one counted last: a form's answer may come without `open`."""
        document = self._document()
        if document != self._counted:
            self._counter.add(Losses(pages=1))
            self._counted = document

    def _document(self) -> float:
        """When the page's document began (ms since 1970): tells two documents of one address apart."""
        with self._command() as driver:
            return float(driver.execute_script("return performance.timeOrigin"))

    def _refuse_error_page(self, driver: WebDriver, url: str, lost_before: int) -> None:
        if not self.location.startswith("chrome-error:"):
            return
        text = str(driver.execute_script("return document.documentElement.innerText"))
        found = _ERROR_NAME.search(text)
        code = found[0] if found else "ERR_UNKNOWN"
        if code == NETWORK_CHANGED:
            self._counter.settle(seconds=_SETTLE_SECONDS)
            if self._counter.losses.network_changed == lost_before:
                self._counter.add(Losses(network_changed=1))  # no event told of it
        raise PageFailed(url, code)

    def wait(self, selector: str, *, seconds: float) -> int:
        with self._command() as driver:
            try:
                found = WebDriverWait(driver, seconds, poll_frequency=0.02).until(
                    lambda seen: self._matches(seen, selector)
                )
            except wrong.TimeoutException:
                raise ElementMissing(
                    f"{self.location} has no {selector!r} after {seconds:g} s",
                    hint="look at the screenshot, and at task.options in fleet.toml",
                ) from None
            return len(found)

    def _matches(self, driver: WebDriver, selector: str) -> list[WebElement]:
        found = driver.find_elements(By.CSS_SELECTOR, selector)
        if not found:
            self._refuse_error_page(driver, self.location, self._lost_before)
        return found

    def wait_loaded(self, *, seconds: float) -> None:
        with self._command() as driver:
            try:
                WebDriverWait(driver, seconds, poll_frequency=0.02).until(
                    lambda seen: seen.execute_script("return document.readyState") == "complete"
                )
            except wrong.TimeoutException:
                raise PageFailed(self.location, "TIMEOUT") from None
            self._refuse_error_page(driver, self.location, self._lost_before)
            self._count_page()

    def fill(self, selector: str, text: str, *, submit: bool = False) -> None:
        with self._command():
            element = self._find(selector)
            element.clear()
            element.send_keys(text + (Keys.ENTER if submit else ""))

    def click(self, selector: str) -> None:
        with self._command():
            self._find(selector).click()

    def _find(self, selector: str) -> WebElement:
        assert self._driver is not None
        try:
            return self._driver.find_element(By.CSS_SELECTOR, selector)
        except wrong.NoSuchElementException:
            raise ElementMissing(f"{self.location} has no {selector!r}") from None

    def texts(self, selector: str) -> list[str]:
        with self._command() as driver:
            found = driver.execute_script(
                "return Array.from(document.querySelectorAll(arguments[0]), element => element.innerText)", selector
            )
            return [str(text) for text in found]

    def screenshot(self) -> bytes:
        with self._command() as driver:
            return bytes(driver.get_screenshot_as_png())

    @property
    def location(self) -> str:
        with self._command() as driver:
            return str(driver.execute_script("return location.href"))

    def evaluate(self, script: str, *arguments: JsonValue) -> JsonValue:
        """What SCRIPT, the body of a function with ARGUMENTS, gives in the page; a promise is waited for."""
        with self._command() as driver:
            value: JsonValue = driver.execute_script(script, *arguments)
            return value

    def counts(self) -> Losses:
        self._counter.settle(seconds=_SETTLE_SECONDS)
        return self._counter.losses

    def close(self) -> None:
        driver, self._driver = self._driver, None
        try:
            reap.end_descendants()
        except Exception:  # noqa: BLE001 - an end must not hide the error that led to it
            _log.exception("browser.left_over")
        if driver is not None:
            self._kind.forget(driver)
            with contextlib.suppress(wrong.WebDriverException, HTTPError, OSError):
                # The driver library leaves its own process's pipe to the garbage collector.
                if (pipe := driver.service.process.stdin) is not None:  # type: ignore[attr-defined]
                    pipe.close()
                _remote(driver).close()  # type: ignore[no-untyped-call]
        self._folder.remove()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _remote(driver: WebDriver) -> RemoteConnection:
    connection = driver.command_executor
    assert isinstance(connection, RemoteConnection)
    return connection


def _refuse_taken(*ports: int) -> None:
    """A stranger that listens on our port would be taken for our browser."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise BrowserStartFailed(
                    f"port {port} of loopback, the browser's own, is taken: {error.strerror}",
                    hint=f"who has it: ss -ltnp sport = :{port}",
                ) from error


def _first_line(error: BaseException) -> str:
    text = str(getattr(error, "msg", None) or error) or type(error).__name__
    return text.splitlines()[0]
