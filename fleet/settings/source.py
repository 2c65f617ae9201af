"""`[hub.source]`: work out of somebody else's queue, and where its answers go."""

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
    """How a server's answer says that it has worked, whatever its status is."""

    success: Pointer = "/success"
    """Where an answer with a good status may say `false`, and has failed."""
    success_is: bool | int | str | None = None
    """What it says there where it has worked; left out: anything but `false`."""


class FormSettings(Settings):
    """What goes into a form with a picture, and what its answer says."""

    file: str = "image"
    """The field of the form that the picture is."""
    fields: dict[str, Pointer] = Field(default_factory=dict)
    """Its other fields, and where each stands in what is known."""
    address: Pointer = "/url"
    """Where the answer says where the picture lies."""


class SourcePictureSettings(FormSettings):
    """`[hub.source.picture]`: where the picture of a job is put before its answer."""

    url: WebAddress
    """{id} in it stands for that of the allocation."""


class SourceResultSettings(Settings):
    """`[hub.source.result]`: how an allocation is answered."""

    url: WebAddress
    """{id} in it stands for that of the allocation."""
    method: Literal["POST", "PUT", "PATCH"] = "POST"
    body: dict[Pointer, Pointer] = Field(min_length=1)
    """What is sent, as JSON: by its place, where it stands in what is known (hub.source.answering)."""


class SourceSettings(ReplySettings):
    """`[hub.source]`: a server that says what is to be done, and wants to hear of each of it."""

    url: WebAddress
    """Asked by GET for an allocation."""
    headers_file: str = ""
    """Lines `Name: value`, secrets among them, that the hub's account can read."""
    timeout_seconds: Seconds = 30
    """For all of a request."""
    insecure_http: bool = False
    id: Pointer = "/id"
    """Where the answer has what names an allocation; without one there is nothing to do."""
    task: str = ""
    """What to do; "": what `[task]` says."""
    site: str = ""
    """Whose pace it keeps; "": the host's name in the addresses of its arguments."""
    arguments: dict[str, Pointer] = Field(default_factory=dict)
    """Options of the task, as a name or a pointer, and where an allocation has each."""
    most: int = Field(default=0, ge=0, le=100_000)
    """So many are in the queue of this host at one time; 0: as many as it has workers."""
    pause_seconds: Seconds = 10
    """Until the next question, where there was nothing to do."""
    wait_seconds: Seconds = 900
    """An allocation that a site limits, or that has not begun, is answered after so long."""
    attempts: int = Field(default=3, ge=1, le=100)
    words: dict[Ending, str] = Field(default_factory=dict)
    """What an outcome is called there."""
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
