"""`[keys]`: a source of keys in addition to files."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator, model_validator

from fleet.settings import Seconds, Settings
from fleet.settings.source import Pointer
from fleet.settings.web_address import WebAddress, checked

_PART = Pointer | None
_SECRET = ("private_key", "config")


class FieldsSettings(Settings):
    """`[keys.source.fields]`: the places of a key's parts in an answer, as JSON pointers (RFC 6901)."""

    success: Pointer = "/success"
    """`false` or a text there is an error; a missing value is none."""
    error: Pointer = "/error"
    """The error message."""
    config: _PART = None
    """A whole client file; then the parts below are ignored, except that `public_key`, if given, is compared."""
    server: Pointer = "/server_address"
    """An address or a name, or HOST:PORT."""
    port: Pointer = "/server_port"
    server_key: Pointer = "/server_public_key"
    private_key: Pointer = "/private_key"
    public_key: Pointer = "/public_key"
    address: Pointer = "/client_address"
    """The worker's address in the tunnel."""


class KeyServiceSettings(Settings):
    """`[keys.source]`: a service that allocates keys over HTTP, and gets them back."""

    insecure_http: bool = False
    """Let the addresses be http: then anybody on the path can read private keys."""
    allocate: WebAddress
    """GET: asks for a key."""
    release: WebAddress
    """POST: gives a key back."""
    status: Annotated[str, Field(max_length=2000)] = ""
    """GET: after a failure of the service, asked until it succeeds; only then keys are requested again."""
    headers_file: str = ""
    """A file with lines `Name: value`, which may be secrets; readable for the account fleet-keys and no worker."""
    servers: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9.:_-]{1,253}$")], ...] = Field(default=(), max_length=512)
    """The VPN servers for which keys are requested in turn; empty: the service chooses."""
    server_parameter: str = Field(default="ip", pattern=r"^[A-Za-z0-9_.-]{1,40}$")
    """The name of the query parameter of `allocate` that holds the server."""
    ahead: int = Field(default=0, ge=0, le=512)
    """How many spare keys are kept ready, so that no worker waits; 0: as many as there are workers."""
    minutes: float = Field(default=60, ge=2, le=1440)
    """After this time the service withdraws a key that was not given back."""
    timeout_seconds: Seconds = 20
    """For a whole request."""
    fields: FieldsSettings = FieldsSettings()
    send_back: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,80}$")], Pointer] = Field(
        default={"public_key": "/public_key"}, min_length=1, max_length=20
    )
    """The JSON object that `release` gets: each field, and the place of its value in the answer of `allocate`."""

    @field_validator("allocate", "release", "status")
    @classmethod
    def _is_private(cls, url: str, rest: ValidationInfo) -> str:
        if rest.field_name == "status" and not url:
            return url
        if not checked(url).startswith(("https://", *(["http://"] if rest.data.get("insecure_http") else []))):
            raise ValueError("is no https address; with insecure_http = true it may be one of http")
        return url

    @model_validator(mode="after")
    def _keeps_secrets(self) -> KeyServiceSettings:
        secret = {getattr(self.fields, name) for name in _SECRET if self.fields.config is None or name == "config"}
        for name, pointer in self.send_back.items():
            if any(one == pointer or one.startswith(f"{pointer}/") for one in secret if one is not None):
                raise ValueError(f"send_back.{name} is, or holds, the private key")
        return self


class KeysSettings(Settings):
    """`[keys]`."""

    source: KeyServiceSettings | None = None
    """None: keys come only from files."""
