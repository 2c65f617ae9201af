"""`[hub]` of fleet.toml."""

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
    """Where a target's answer has the address of the stored picture; "": it is not read."""


class TargetSettings(ReplySettings):
    """`[hub.targets.NAME]`: where the results of jobs are delivered."""

    url: str = Field(max_length=2000)
    """`file:///folder`, `s3://bucket/folder`, or `https://...`; in the last two {job}, {fence} and, for a file, {name}
    are replaced by those of the run."""
    method: Literal["POST", "PUT"] = "POST"
    """`POST`: a form with the fields `run` (JSON) and `picture`. `PUT`: each file to its own address."""
    form: TargetFormSettings | None = None
    """For a `POST`: other fields in place of these two."""
    headers_file: str = ""
    """A file with lines `Name: value`, which may be secrets; the hub's account must be able to read it."""
    secret_file: str = ""
    """The secret that signs requests over HTTPS (standardwebhooks.com)."""
    keys_file: str = ""
    """For a bucket: the lines `access_key_id: ...` and `secret_access_key: ...`."""
    endpoint: str = Field(default="", max_length=2000)
    """For a bucket: the address of its service; "": Amazon's."""
    region: str = Field(default="us-east-1", max_length=100)
    """For a bucket."""
    timeout_seconds: Seconds = 30
    """For a whole request."""
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
            raise ValueError("endpoint belongs to an s3:// url: https://host, or, with insecure_http, http://host")
        if self.form and (parts.scheme not in ("https", "http") or self.method != "POST"):
            raise ValueError("form has a meaning only with POST to https://")
        for name, schemes in (("keys_file", ("s3",)), ("secret_file", ("https", "http"))):
            if getattr(self, name) and parts.scheme not in schemes:
                raise ValueError(f"{name} has no meaning with {parts.scheme}://")
        return self


class KeepSettings(Settings):
    """`[hub.keep]`: how long results are kept, those of `[task]` too, and how much disk space must be free.

    What has not been delivered is kept.
    """

    pictures_days: float = Field(default=30, gt=0, le=36_500)
    pictures_mebibytes: int = Field(default=20_480, ge=1)
    """For all workers of this host; the oldest pictures are removed first."""
    answers_days: float = Field(default=365, gt=0, le=36_500)
    """After that only the outcome and the time of a run are kept."""
    runs_days: float = Field(default=730, gt=0, le=36_500)
    """After that nothing is kept; the key of a finished job may be added again."""
    free_mebibytes: int = Field(default=256, ge=0)
    """With less free disk space no job begins; below four times that the log warns."""


Act = Literal["pause", "resume", "retry", "stop", "start", "rotate"]


class WebSettings(Settings):
    """`[hub.web]`: the page on 127.0.0.1."""

    port: int = Field(default=0, ge=0, le=65_535)
    """0: no page."""
    token_file: str = Field(default="", max_length=4000)
    """A client that sends the token in it may add jobs; the hub's account reads the file. "": no client may."""
    acts: tuple[Act, ...] = ("pause", "resume", "retry")
    """What people with the token may do on the page; `stop`, `start` and `rotate` are for workers."""

    readers: Literal["everybody", "link"] = "everybody"
    """Who may read: every user of this host, or those who have a link (`fleet page link`) or the token."""

    @property
    def stops_workers(self) -> bool:
        """Whether the program that stops and starts workers is needed (fleet.operate.acts)."""
        return not {"stop", "start"}.isdisjoint(self.acts) and bool(self.port)

    @model_validator(mode="after")
    def _somebody_may(self) -> WebSettings:
        if not {"stop", "start", "rotate"}.isdisjoint(self.acts) and not (self.port and self.token_file):
            raise ValueError("acts: to stop, start or rotate workers, the page needs a port and a token_file")
        if self.readers == "link" and not self.token_file:
            raise ValueError("readers: links are made with the token: token_file is missing")
        return self


class TracesSettings(Settings):
    """`[hub.traces]`: an OpenTelemetry collector that gets a trace of each run; after `bin/setup --extras`."""

    url: str = Field(pattern=r"^(https://|http://(127\.0\.0\.1|\[::1\]|localhost)[:/])", max_length=2000)
    """Its OTLP/HTTP address: `http://127.0.0.1:4318/v1/traces`. Without encryption only on this host."""
    timeout_seconds: Seconds = 10


class HubSettings(Settings):
    """`[hub]`."""

    jobs: Literal["none", "first", "only"] = "none"
    """`first`: workers do the jobs of the queue, and `[task]` while no job can begin. `only`: they wait then."""
    database: str = Field(default="", max_length=500, pattern=r"^(postgresql://[^:@/?#]*(@[^@]*)?)?$")
    """A PostgreSQL that many hosts share; "": a file on this host. No password in it: these settings are not secret."""
    targets: dict[Name, TargetSettings] = Field(default_factory=dict)
    """The receivers of each job's answer, by name."""

    alerts: dict[Name, AlertSettings] = Field(default_factory=dict)
    """The alert rules, by name."""
    alert_targets: dict[Name, AlertTargetSettings] = Field(default_factory=dict)
    """The receivers of alerts, by name."""
    keep: KeepSettings = KeepSettings()
    web: WebSettings = WebSettings()
    traces: TracesSettings | None = None
    source: SourceSettings | None = None
    """A foreign queue."""

    @field_validator("source")
    @classmethod
    def _has_workers(cls, source: SourceSettings | None, rest: object) -> SourceSettings | None:
        if source is not None and getattr(rest, "data", {}).get("jobs") == "none":
            raise ValueError('no worker does its jobs: set hub.jobs = "first" or "only"')
        return source

    def address(self, paths: Paths) -> str:
        """The address of the database."""
        return self.database or f"sqlite:///{paths.hub_database}"
