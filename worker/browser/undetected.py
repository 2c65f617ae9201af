"""Chrome moved by undetected-chromedriver (UC) 3.5.5. Its habits, each measured, are tamed here.

UC starts Chrome itself and lets ChromeDriver attach over a port of loopback. It never patches here: the
driver it is given is a wrapper that says it is patched, and the program behind is the copy of set-up.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import undetected_chromedriver
from selenium.webdriver.common import utils
from selenium.webdriver.remote.webdriver import WebDriver

from worker.browser.interface import Start

# UC registers a finaliser that holds the driver it waits for: no session would ever be freed (two
# descriptors and a zombie each), and at exit it kills process numbers that may be somebody else's by then.
undetected_chromedriver.finalize = lambda *_: None


def start(order: Start) -> WebDriver:
    """A driver with a browser that has one empty page open."""
    options = undetected_chromedriver.ChromeOptions()
    undetected_chromedriver.Patcher.data_path = str(order.folder / "t")  # it makes a folder in HOME else
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
    """Keep DRIVER's destructor from signalling a process number that is long somebody else's."""
    driver.browser_pid = None  # type: ignore[attr-defined]


@contextlib.contextmanager
def _ports(*ports: int) -> Iterator[None]:
    """UC has no setting for ChromeDriver's port: for both ports it asks this function, in this order."""
    given = iter(ports)
    original = utils.free_port
    utils.free_port = lambda: next(given)
    try:
        yield
    finally:
        utils.free_port = original
