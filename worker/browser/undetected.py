"""Starts Chrome with undetected-chromedriver (UC) 3.5.5, and works around its habits, each of which was measured.

UC starts Chrome itself and lets ChromeDriver attach over a loopback port. It never patches here: it gets a
wrapper that claims to be patched, which runs the copy that was patched at preparation.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import undetected_chromedriver
from selenium.webdriver.common import utils
from selenium.webdriver.remote.webdriver import WebDriver

from worker.browser.interface import Start

# UC registers a finaliser that keeps the driver alive: no session would ever be freed (two descriptors
# and a zombie each), and at exit it would kill pids that may have been reused.
undetected_chromedriver.finalize = lambda *_: None


def start(order: Start) -> WebDriver:
    """A driver with a browser that has one empty page open."""
    options = undetected_chromedriver.ChromeOptions()
    undetected_chromedriver.Patcher.data_path = str(order.folder / "t")  # else it makes a folder in HOME
    with _ports(order.ports.devtools, order.ports.driver):
        driver = undetected_chromedriver.Chrome(
            options=options,
            user_data_dir=str(order.profile),
            driver_executable_path=str(order.driver),
            browser_executable_path=str(order.browser),
            version_main=order.installed.major,
            use_subprocess=True,
        )
    assert isinstance(driver, WebDriver)
    return driver


def forget(driver: WebDriver) -> None:
    """Keep DRIVER's destructor from signalling a pid that may have been reused."""
    driver.browser_pid = None  # type: ignore[attr-defined]


@contextlib.contextmanager
def _ports(*ports: int) -> Iterator[None]:
    """Let UC use PORTS: it has no setting for ChromeDriver's port, and calls free_port for both, in this order."""
    given = iter(ports)
    original = utils.free_port
    utils.free_port = lambda: next(given)
    try:
        yield
    finally:
        utils.free_port = original
