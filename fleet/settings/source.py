"""`[hub.source]`: a foreign queue that jobs are taken from, and where their answers go."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from fleet.outcomes import Ending
from fleet.settings import Seconds, Settings
from fleet.settings.web_address import WebAddress


def _pointer(text: str) -> str:
    if not re.fullmatch(r"(/([^~]|~[01])*)?", text):
        raise ValueError(f'{text!r} is no JSON pointer (RFC 6901), such as "/data/id"')
    return text


Pointer = Annotated[str, AfterValidator(_pointer)]


class ReplySettings(Settings):
    """How the body of a server's answer shows success, in addition to its status."""

    success: Pointer = "/success"
    """The place where an answer with a good status may say `false`, which is a failure."""
    success_is: bool | int | str | None = None
    """The value there that means success; not set: anything but `false`."""


class FormSettings(Settings):
    """The fields of a form with a picture, and the address in its answer."""

    file: str = "image"
    """The name of the form's field with the picture."""
    fields: dict[str, Pointer] = Field(default_factory=dict)
    """The other fields, and the place of each value in the document about the run."""
    address: Pointer = "/url"
    """The place of the stored picture's address in the answer."""


class SourcePictureSettings(FormSettings):
    """`[hub.source.picture]`: where a job's picture is uploaded before its answer is sent."""

    url: WebAddress
    """{id} in it stands for that of the allocation."""


class SourceResultSettings(Settings):
    """`[hub.source.result]`: how an allocation is answered."""

    url: WebAddress
    """{id} in it stands for that of the allocation."""
    method: Literal["POST", "PUT", "PATCH"] = "POST"
    body: dict[Pointer, Pointer] = Field(min_length=1)
    """The JSON that is sent: place -> the place of the value in the document about the run (hub.source.answering)."""


class SourceSettings(ReplySettings):
    """`[hub.source]`: a server that allocates jobs, and gets the answer of each."""

    url: WebAddress
    """GET: asks for an allocation."""
    headers_file: str = ""
    """A file with lines `Name: value`, which may be secrets; the hub's account must be able to read it."""
    timeout_seconds: Seconds = 30
    """For a whole request."""
    insecure_http: bool = False
    id: Pointer = "/id"
    """The place of the allocation's id in the answer; without an id there is nothing to do."""
    task: str = ""
    """The task; "": the one of `[task]`."""
    site: str = ""
    """The site whose pace applies; "": the host name in the addresses of its arguments."""
    arguments: dict[str, Pointer] = Field(default_factory=dict)
    """The task's options (a name or a pointer), and the place of each in an allocation."""
    most: int = Field(default=0, ge=0, le=100_000)
    """The most allocations in this host's queue at one time; 0: as many as it has workers."""
    pause_seconds: Seconds = 10
    """The pause before the next request when there was nothing to do."""
    wait_seconds: Seconds = 900
    """The longest time before an allocation is answered, if a site limits it or it has not begun."""
    attempts: int = Field(default=3, ge=1, le=100)
    words: dict[Ending, str] = Field(default_factory=dict)
    """The server's words for outcomes."""
    picture: SourcePictureSettings | None = None
    result: SourceResultSettings

    @model_validator(mode="after")
    def _are_private(self) -> SourceSettings:
        urls = {"url": self.url, "result.url": self.result.url}
        urls |= {"picture.url": self.picture.url} if self.picture else {}
        for key, url in urls.items():
            if not (self.insecure_http or url.startswith("https://")):
                raise ValueError(f"{key} is no https address; with insecure_http = true it may be one of http")
            if "@" in url.partition("://")[2].partition("/")[0]:
                raise ValueError(f"{key} holds a name or a password: write them as a header into headers_file")
        return self
