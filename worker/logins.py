"""Reads the operator's files of log-ins as root, and gives them only to the worker that needs them.

`worker prepare` reads the files and puts what a worker needs into its private /etc, which no other user sees; the
settings, which every worker can read, contain only the files' names.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from fleet.errors import ConfigurationError
from fleet.model import BrowserSettings, Worker
from fleet.settings.web_address import Origin

MINE = Path("/etc/fleet-logins.json")
PASSWORD_BYTES = 4096
STATE_BYTES = 1 << 20


class _Part(BaseModel, frozen=True, hide_input_in_errors=True, allow_inf_nan=False):
    """A part of Playwright's storageState; other fields are ignored."""


class Cookie(_Part):
    """A cookie."""

    name: str
    value: str = Field(repr=False)
    domain: str
    path: str = "/"
    expires: float = -1
    """Seconds since 1970; -1: a session cookie."""
    httpOnly: bool = False  # noqa: N815 - Playwright's name, and Chrome's
    secure: bool = False
    sameSite: Literal["Strict", "Lax", "None"] | None = None  # noqa: N815


class Stored(_Part):
    """An entry of local storage."""

    name: str
    value: str = Field(repr=False)


class Place(_Part):
    """The local storage of a site."""

    origin: Origin
    localStorage: tuple[Stored, ...] = ()  # noqa: N815


class State(_Part):
    """Cookies and local storage of sites."""

    cookies: tuple[Cookie, ...] = Field(default=(), max_length=3000)
    origins: tuple[Place, ...] = Field(default=(), max_length=100)


class Logins(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    """The log-ins of one worker."""

    passwords: dict[str, str] = Field(default_factory=dict, repr=False)
    """`user:password` by origin."""
    state: State | None = None
    """The state that a loop begins with."""


NONE = Logins()


def etc_files(settings: BrowserSettings, worker: Worker) -> Mapping[str, str]:
    """The file for WORKER's /etc; raises ConfigurationError naming key and file, but nothing of its content."""
    passwords = {origin: _password(origin, path) for origin, path in settings.auth.items()}
    made = Logins(passwords=passwords, state=_state(settings.state.file, worker))
    return {MINE.name: made.model_dump_json()} if made != NONE else {}


def mine(path: Path = MINE) -> Logins:
    """The log-ins of this worker."""
    try:
        return Logins.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return NONE
    except (OSError, ValidationError):
        raise ConfigurationError(f"{path} cannot be read", hint="fleet down, then fleet up") from None


def _password(origin: str, path: Path) -> str:
    key = f'browser.auth."{origin}"'
    text = read(key, path, PASSWORD_BYTES).strip("\r\n")
    if ":" not in text or not text.isprintable():
        raise ConfigurationError(f"{key}: {path} has to hold one line, user:password")
    return text


def _state(file: str, worker: Worker) -> State | None:
    if not file:
        return None
    path = Path(file.replace("{worker}", worker.name))
    text = read("browser.state.file", path, STATE_BYTES)
    try:
        return State.model_validate_json(text)
    except ValidationError as error:
        places = (f"{'.'.join(map(str, one['loc'])) or 'all of it'}: {one['msg']}" for one in error.errors()[:5])
        hint = "cookies and origins, as Playwright's storageState has them"
        raise ConfigurationError(f"browser.state.file: {path}: {'; '.join(places)}", hint=hint) from None


def read(key: str, path: Path, most_bytes: int) -> str:
    """The text in PATH, the secret file of KEY; raises ConfigurationError unless only its owner can read it."""
    try:
        # O_NONBLOCK: opening a FIFO without a writer would block forever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(f"{key}: {path} cannot be read: {error.strerror}") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ConfigurationError(f"{key}: {path} is no file")
        if found.st_mode & 0o077 or found.st_uid not in (0, os.geteuid()):
            hint = f"chown root {path} && chmod 600 {path}"
            raise ConfigurationError(f"{key}: others than root can read {path}, or change it", hint=hint)
        content = os.read(descriptor, most_bytes + 1)
    finally:
        os.close(descriptor)
    if len(content) > most_bytes:
        raise ConfigurationError(f"{key}: {path} is larger than {most_bytes} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ConfigurationError(f"{key}: {path} is no text") from None
