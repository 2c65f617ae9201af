"""`[keys]`: where keys come from beside files."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator, model_validator

from fleet.settings import Seconds, Settings
from fleet.settings.source import Pointer
from fleet.settings.web_address import WebAddress, checked

_PART = Pointer | None
_SECRET = ("private_key", "config")


class FieldsSettings(Settings):
    """`[keys.source.fields]`: where an answer has each part of a key, as JSON pointers (RFC 6901)."""

    success: Pointer = "/success"
    """`false` there, or a word in place of it, is an error; nothing there is none."""
    error: Pointer = "/error"
    """Why, in words."""
    config: _PART = None
    """A whole client file; the parts below then count for nothing, but `public_key` is compared where it is there."""
    server: Pointer = "/server_address"
    """An address or a name, or HOST:PORT."""
    port: Pointer = "/server_port"
    server_key: Pointer = "/server_public_key"
    private_key: Pointer = "/private_key"
    public_key: Pointer = "/public_key"
    address: Pointer = "/client_address"
    """The address in the tunnel."""


class KeyServiceSettings(Settings):
    """`[keys.source]`: a service that hands out keys over HTTP and wants them back."""

    insecure_http: bool = False
    """Let the addresses be http: then whoever is on the way reads private keys."""
    allocate: WebAddress
    """Asked by GET for a key."""
    release: WebAddress
    """Told by POST that a key is free again."""
    status: Annotated[str, Field(max_length=2000)] = ""
    """Asked by GET, once the service has failed, until it answers well: only then is it asked for keys again."""
    headers_file: str = ""
    """Lines `Name: value`, secrets among them, that the account fleet-keys can read, and no worker."""
    servers: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9.:_-]{1,253}$")], ...] = Field(default=(), max_length=512)
    """The VPN servers whose keys are asked for, in turn; empty: the service chooses."""
    server_parameter: str = Field(default="ip", pattern=r"^[A-Za-z0-9_.-]{1,40}$")
    """By which name `allocate` is told the server."""
    ahead: int = Field(default=0, ge=0, le=512)
    """So many keys lie ready beside those in use, so that no worker waits; 0: as many as there are workers."""
    minutes: float = Field(default=60, ge=2, le=1440)
    """After so long the service takes a key away that it was not given back."""
    timeout_seconds: Seconds = 20
    """For all of a request."""
    fields: FieldsSettings = FieldsSettings()
    send_back: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,80}$")], Pointer] = Field(
        default={"public_key": "/public_key"}, min_length=1, max_length=20
    )
    """What `release` is told, as a JSON object: each field, and where the answer of `allocate` has its value."""

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
    """None: keys come from files alone."""
