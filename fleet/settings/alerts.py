"""`[hub.alerts.NAME]` and `[hub.alert_targets.NAME]`: when to alert, and whom."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from fleet.settings import Seconds, Settings
from fleet.settings.source import Pointer

Name = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")]
Edge = Annotated[int, Field(ge=0, le=100_000)]
STATES = ("above", "below", "gone")
"""Conditions that last: they are reported at their beginning and end. All others are reported each time."""
NUMBERS = ("above", "below", "percent", "moved", "picture")
APPRISE = "apprise:"
PICTURE = "/picture"
"""The value of a rule about pictures: the difference in percent."""


class AlertTargetSettings(Settings):
    """`[hub.alert_targets.NAME]`: a webhook, a mailbox, or a service that apprise knows."""

    url: str = Field(max_length=2000)
    """`https://...`: a POST of JSON. `smtp://host:port` or `smtps://host:port`: an e-mail; the first uses STARTTLS.
    `apprise:`: the address in secret_file; after `bin/setup --extras`."""
    secret_file: str = ""
    """For a webhook: the secret that signs its messages (standardwebhooks.com). For mail: `user:password`. For apprise:
    the address."""
    headers_file: str = ""
    """For a webhook: lines `Name: value`."""
    sender: str = ""
    recipients: tuple[str, ...] = ()
    timeout_seconds: Seconds = 30
    insecure: bool = False
    """Allow http://, and smtp:// without STARTTLS."""

    @property
    def is_mail(self) -> bool:
        return urlsplit(self.url).scheme in ("smtp", "smtps")

    @model_validator(mode="after")
    def _can_be(self) -> AlertTargetSettings:
        parts = urlsplit(self.url)
        if self.url == APPRISE and self.secret_file:
            return self
        if parts.scheme not in ("https", "smtp", "smtps", *(["http"] if self.insecure else [])) or not parts.hostname:
            raise ValueError(
                "url is none of https://host/path, smtp://host:port, smtps://host:port, apprise: with secret_file"
            )
        if "@" in parts.netloc:
            raise ValueError("url holds a name or a password: write them into secret_file")
        words = (self.sender, *self.recipients)
        if self.is_mail and not (self.recipients and all("@" in one and one.isprintable() for one in words)):
            raise ValueError('mail needs sender = "fleet@example.com" and recipients = ["me@example.com"]')
        return self


class AlertSettings(Settings):
    """`[hub.alerts.NAME]`: one rule about what jobs find."""

    jobs: str = "*"
    """The keys of the jobs it applies to, with * and ? as in file names; "*" includes jobs without a key."""
    site: str = ""
    value: Pointer = "/answer"
    """The place of the value in the document that targets get about a run: /answer/price, /outcome."""
    when: Literal["above", "below", "changed", "percent", "moved", "gone", "back", "picture"]
    than: float | None = None
    """For above and below the limit; for percent, moved (a rank, a number) and picture (percent) the least change."""
    masks: tuple[tuple[Edge, Edge, Edge, Edge], ...] = Field(default=(), max_length=100)
    """For a picture: left, top, width and height of areas that may change, in its pixels."""
    times: int = Field(default=1, ge=1, le=1000)
    """How many runs in a row must agree, for the beginning and for the end."""
    exits: int = Field(default=1, ge=1, le=100)
    """How many different exits must agree ..."""
    of: int = Field(default=0, ge=0, le=1000)
    """... among this many last runs; 0: as many as `exits`."""
    repeat_minutes: float = Field(default=0, ge=0, le=100_000)
    """Repeat the alert at this interval until it is over, or until `fleet alert handled`; 0: never."""
    targets: tuple[Name, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _has_a_limit(self) -> AlertSettings:
        if (self.than is not None) != (self.when in NUMBERS):
            raise ValueError(f"than: {'is missing' if self.when in NUMBERS else 'has no meaning'} with {self.when!r}")
        if self.when == "picture":
            if not 0 <= (self.than or 0) < 100:
                raise ValueError("than: a picture differs by 0 to 100 percent")
            if "value" in self.model_fields_set:
                raise ValueError("value: has no meaning with 'picture'; a run has one picture")
        elif self.masks:
            raise ValueError(f"masks: have no meaning with {self.when!r}")
        if self.of and self.of < self.exits:
            raise ValueError("of: is less than exits")
        if self.repeat_minutes and self.when not in STATES:
            raise ValueError(f"repeat_minutes: {self.when!r} is over as soon as it has happened")
        return self
