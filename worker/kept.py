"""Keeps log-ins from loop to loop, in a file in the worker's home, if `browser.state.keep` is set."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from pydantic import BaseModel, ValidationError

from fleet import log
from fleet.errors import ConfigurationError, FleetError
from fleet.machine.files import write_durably
from fleet.settings.browser import StateSettings
from worker.browser.commands import Browser
from worker.logins import STATE_BYTES, State

_log = log.get("worker")


class _File(BaseModel, frozen=True, hide_input_in_errors=True):
    begun: str
    """A hash of the operator's file at that time: after a change of the file the log-in starts from it again."""
    state: State


class Kept:
    """The kept log-ins of one worker."""

    def __init__(self, home: Path, settings: StateSettings, given: State | None) -> None:
        """GIVEN is the content of the operator's file."""
        self._path, self._settings, self._given = home / "logins.json", settings, given
        content = given.model_dump_json() if given else ""
        self._begun = hashlib.sha256(content.encode()).hexdigest()

    def restore(self, browser: Browser) -> None:
        """Give BROWSER the kept state, else the operator's. Raises ConfigurationError if Chrome refuses the latter."""
        if kept := self._stored():
            try:
                browser.restore(kept)
                return
            except ConfigurationError:
                _log.warning("logins.dropped", why="Chrome does not accept the kept state")
                self._path.unlink(missing_ok=True)
        if self._given:
            browser.restore(self._given)

    def save(self, browser: Browser) -> None:
        """Keep BROWSER's state of the sites for the next loop; if it cannot be read, the old one is kept."""
        if not self._settings.keep:
            return
        try:
            made = _File(begun=self._begun, state=browser.state(self._settings.sites)).model_dump_json().encode()
        except (FleetError, ValidationError) as error:
            _log.warning("logins.not_kept", why=type(error).__name__)
            return
        if len(made) > STATE_BYTES:
            _log.warning("logins.not_kept", why=f"they have {len(made)} bytes, more than {STATE_BYTES}")
            return
        with contextlib.suppress(OSError):  # a full disk is reported when the result is written
            write_durably(self._path, made, 0o600)

    def _stored(self) -> State | None:
        """The kept state, if it belongs to the present settings."""
        try:
            if self._settings.keep and self._path.lstat().st_size <= STATE_BYTES:
                found = _File.model_validate_json(self._path.read_bytes())
                if found.begun == self._begun:
                    return found.state
            self._path.unlink()
        except (OSError, ValidationError):
            pass
        return None
