"""`[browser]` of fleet.toml: which browser, and how pages see it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal
from zoneinfo import available_timezones

from pydantic import Field, ValidationInfo, field_validator, model_validator

from fleet.settings import Seconds, Settings
from fleet.settings.web_address import Origin


class StateSettings(Settings):
    """`[browser.state]`: what a browser knows of sites when a loop begins; by default nothing."""

    keep: bool = False
    """Keep the log-in at `sites` from loop to loop, separately for each worker."""
    sites: tuple[Origin, ...] = Field(default=(), max_length=20)
    file: str = ""
    """A file of root with cookies and local storage, in the format of Playwright's storageState; `{worker}` in the path
    stands for the worker's name.
    """

    @field_validator("sites")
    @classmethod
    def _kept_sites(cls, sites: tuple[str, ...], rest: ValidationInfo) -> tuple[str, ...]:
        if sites and not rest.data.get("keep"):
            raise ValueError("belongs to keep = true")
        return sites

    @field_validator("file")
    @classmethod
    def _whole_path(cls, path: str) -> str:
        if path and not path.startswith("/"):
            raise ValueError("is no absolute path")
        return path

    @model_validator(mode="after")
    def _names_its_sites(self) -> StateSettings:
        if self.keep and not self.sites:
            raise ValueError('keep = true needs sites = ["https://www.example.com"]: whose log-in is kept')
        return self


class BrowserSettings(Settings):
    """`[browser]`."""

    driver: Literal["undetected", "selenium"] = "undetected"
    binary: Path | None = None
    """The browser; None: the first that exists of google-chrome, google-chrome-stable, chromium."""
    driver_binary: Path | None = None
    """ChromeDriver; None: the one on PATH. A patched copy of it is made at preparation."""
    sandbox: bool = True
    """Chrome's own sandbox. Turning it off hands a page's exploit the worker's whole UID."""
    i_know_what_no_sandbox_means: bool = Field(default=False, validate_default=True)
    """Must be true when `sandbox` is false, so that the sandbox is not turned off by accident."""
    language: str = "ko-KR"
    """Such as ko-KR or en: the language that pages are requested in, and that of their dates and numbers."""
    time_zone: str = ""
    """Such as Asia/Seoul: the clock that pages see; empty: this host's."""
    window_width: int = Field(default=1280, ge=240, le=7680)
    """The width that a page sees: `innerWidth`."""
    window_height: int = Field(default=900, ge=240, le=7680)
    scale_factor: float = Field(default=1, ge=0.5, le=4)
    """Pixels of a picture for each CSS pixel."""
    mobile: bool = False
    """Be a telephone, by Chrome's device emulation: touch, the page's viewport, Android's user agent."""
    start_timeout_seconds: Seconds = 60
    page_load_timeout_seconds: Seconds = 60
    patience: float = Field(default=1, ge=0.1, le=10)
    """A factor of how long a page must be at rest before it is read, usually 0.5 to 3 s."""
    starts_at_once: int | None = Field(default=None, ge=1)
    """Browser starts at the same time on this host; None: as many as there are cores."""
    certificate_authorities: tuple[Path, ...] = ()
    """PEM files of further authorities that Chrome and the exit proof trust."""
    state: StateSettings = StateSettings()
    auth: dict[Origin, Path] = Field(default_factory=dict)
    """Site -> a file of root with `user:password`, for HTTP basic authentication."""

    @field_validator("auth")
    @classmethod
    def _nobody_reads_passwords(cls, files: dict[str, Path]) -> dict[str, Path]:
        for site, path in files.items():
            if not site.startswith("https://"):
                raise ValueError(f"{site!r} is no https site: anybody on the path could read the password")
            if not path.is_absolute():
                raise ValueError(f"{str(path)!r} is no absolute path")
        return files

    @field_validator("language")
    @classmethod
    def _is_a_language(cls, name: str) -> str:
        if not re.fullmatch(r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?", name):
            raise ValueError("is no language such as ko-KR, en or zh-Hant-TW")
        return name

    @field_validator("time_zone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name and name not in available_timezones():
            raise ValueError("is no time zone of this host, such as Asia/Seoul or UTC")
        return name

    @field_validator("i_know_what_no_sandbox_means")
    @classmethod
    def _means_it(cls, means_it: bool, rest: ValidationInfo) -> bool:
        if rest.data.get("sandbox") is False and not means_it:
            raise ValueError(
                "must be true as well when browser.sandbox is false: without its sandbox a page that breaks out of "
                "Chrome has all that the worker has, its tunnel and its files"
            )
        return means_it
