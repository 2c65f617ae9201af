"""What fleet.toml says to the hub."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from fleet.paths import Paths
from fleet.settings import Seconds, Settings
from fleet.settings.alerts import AlertSettings, AlertTargetSettings, Name
from fleet.settings.source import FormSettings, Pointer, ReplySettings, SourceSettings


class TargetFormSettings(FormSettings):
    """`[hub.targets.NAME.form]`."""

    address: Pointer = ""
    """Where the answer to a run with a picture says where that lies; "": it is not asked for."""


class TargetSettings(ReplySettings):
    """`[hub.targets.NAME]`: where results of jobs are delivered."""

    url: str = Field(max_length=2000)
    """`file:///folder`, `s3://bucket/folder`, or `https://...`; in the last two {job}, {fence} and, of a file, {name}
    stand for those of the run."""
    method: Literal["POST", "PUT"] = "POST"
    """`POST`: a form with the fields `run` (JSON) and `picture`. `PUT`: each file to its own address."""
    form: TargetFormSettings | None = None
    """Of a `POST`: fields of its own in place of these two."""
    headers_file: str = ""
    """Lines `Name: value`, secrets among them, that the hub's account can read."""
    secret_file: str = ""
    """What requests over HTTPS are signed with (standardwebhooks.com)."""
    keys_file: str = ""
    """Of a bucket: the lines `access_key_id: ...` and `secret_access_key: ...`."""
    endpoint: str = Field(default="", max_length=2000)
    """Of a bucket: where its service is; "" is Amazon's."""
    region: str = Field(default="us-east-1", max_length=100)
    """Of a bucket."""
    timeout_seconds: Seconds = 30
    """For all of a request."""
    insecure_http: bool = False

    @model_validator(mode="after")
    def _is_sent_somewhere(self) -> TargetSettings:
        parts, web = urlsplit(self.url), ("https", *(["http"] if self.insecure_http else []))
        known = parts.scheme == "file" and not parts.netloc and parts.path.startswith("/")
        known |= parts.scheme in (*web, "s3") and bool(parts.hostname)
        if not known:
            raise ValueError(
                "url is none of file:///folder, s3://bucket/folder, https://host/path, or, with insecure_http, "
                "http://host/path"
            )
        if parts.scheme == "s3" and not self.keys_file:
            raise ValueError("keys_file is missing: s3:// is written to with an access key")
        if self.endpoint and (parts.scheme != "s3" or urlsplit(self.endpoint).scheme not in web):
            raise ValueError("endpoint is that of an s3:// url: https://host, or, with insecure_http, http://host")
        if self.form and (parts.scheme not in ("https", "http") or self.method != "POST"):
            raise ValueError("form has no meaning but with POST to https://")
        for name, schemes in (("keys_file", ("s3",)), ("secret_file", ("https", "http"))):
            if getattr(self, name) and parts.scheme not in schemes:
                raise ValueError(f"{name} has no meaning with {parts.scheme}://")
        return self


class KeepSettings(Settings):
    """`[hub.keep]`: for how long results are kept, those of `[task]` too, and which room there has to be.

    Nothing goes undelivered.
    """

    pictures_days: float = Field(default=30, gt=0, le=36_500)
    pictures_mebibytes: int = Field(default=20_480, ge=1)
    """Of all workers of this host; the oldest go first."""
    answers_days: float = Field(default=365, gt=0, le=36_500)
    """Then only what a run came to is known, and when."""
    runs_days: float = Field(default=730, gt=0, le=36_500)
    """Then nothing of it; the key of a job that was done may be added again."""
    free_mebibytes: int = Field(default=256, ge=0)
    """With less room on the disk no job begins; four times that is said."""


Act = Literal["pause", "resume", "retry", "stop", "start", "rotate"]


class WebSettings(Settings):
    """`[hub.web]`: the page on 127.0.0.1."""

    port: int = Field(default=0, ge=0, le=65_535)
    """0: there is no page."""
    token_file: str = Field(default="", max_length=4000)
    """Whoever sends the token in it may add jobs; the hub's account reads it. "": nobody may."""
    acts: tuple[Act, ...] = ("pause", "resume", "retry")
    """What people with the token do on the page; `stop`, `start` and `rotate` are of workers."""

    readers: Literal["everybody", "link"] = "everybody"
    """Who reads: every user of this host, or who has a link (`fleet page link`) or the token."""

    @property
    def stops_workers(self) -> bool:
        """Whether there has to be a program that is able to (fleet.operate.acts)."""
        return not {"stop", "start"}.isdisjoint(self.acts) and bool(self.port)

    @model_validator(mode="after")
    def _somebody_may(self) -> WebSettings:
        if not {"stop", "start", "rotate"}.isdisjoint(self.acts) and not (self.port and self.token_file):
            raise ValueError("acts: to stop, start or rotate workers, the page needs a port and a token_file")
        if self.readers == "link" and not self.token_file:
            raise ValueError("readers: links are made with the token: token_file is missing")
        return self


class TracesSettings(Settings):
    """`[hub.traces]`: a collector of OpenTelemetry's that gets a trace of each run; after `bin/setup --extras`."""

    url: str = Field(pattern=r"^(https://|http://(127\.0\.0\.1|\[::1\]|localhost)[:/])", max_length=2000)
    """Where it takes them over HTTP: `http://127.0.0.1:4318/v1/traces`. Without encryption on this host alone."""
    timeout_seconds: Seconds = 10


class HubSettings(Settings):
    """`[hub]`."""

    jobs: Literal["none", "first", "only"] = "none"
    """`first`: workers do the jobs of the queue, and `[task]` while there is none to begin. `only`: they wait then."""
    database: str = Field(default="", max_length=500, pattern=r"^(postgresql://[^:@/?#]*(@[^@]*)?)?$")
    """A PostgreSQL that many hosts share; "": a file on this one. Without a password: these settings are no secret."""
    targets: dict[Name, TargetSettings] = Field(default_factory=dict)
    """Who gets the answer of each job, by name."""

    alerts: dict[Name, AlertSettings] = Field(default_factory=dict)
    """What is worth a word, by name."""
    alert_targets: dict[Name, AlertTargetSettings] = Field(default_factory=dict)
    """Who gets it, by name."""
    keep: KeepSettings = KeepSettings()
    web: WebSettings = WebSettings()
    traces: TracesSettings | None = None
    source: SourceSettings | None = None
    """Somebody else's queue."""

    @field_validator("source")
    @classmethod
    def _has_workers(cls, source: SourceSettings | None, rest: object) -> SourceSettings | None:
        if source is not None and getattr(rest, "data", {}).get("jobs") == "none":
            raise ValueError('no worker does its work: set hub.jobs = "first" or "only"')
        return source

    def address(self, paths: Paths) -> str:
        """Where the database is."""
        return self.database or f"sqlite:///{paths.hub_database}"
