"""Starts Chrome with plain selenium and ChromeDriver; it is then controlled over its DevTools port (cdp.py)."""

from __future__ import annotations

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.remote.webdriver import WebDriver

from worker.browser.interface import Start


def start(order: Start) -> WebDriver:
    """A driver with a browser that has one empty page open."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(order.browser)
    options.add_argument(f"--remote-debugging-port={order.ports.devtools}")
    options.add_argument(f"--user-data-dir={order.profile}")
    return webdriver.Chrome(
        options=options, service=Service(executable_path=str(order.driver), port=order.ports.driver)
    )


def forget(driver: WebDriver) -> None:
    """Nothing to undo."""
