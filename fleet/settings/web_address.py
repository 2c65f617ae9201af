"""The types of web addresses and sites in settings."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, WithJsonSchema


def checked(url: str) -> str:
    """URL; raises ValueError when it is no valid web address."""
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"{url!r} is no http or https address")
    if re.match(r"https?://[^/?#]*@", url):
        raise ValueError("no address holds a name or a password, as any user may read it: browser.auth takes a file")
    if re.search(r"[\s\x00-\x1f<>\"]", url):
        raise ValueError(f"{url!r} holds a blank or another invalid character; write it as %20 or the like")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError as error:
        raise ValueError(f"{url!r} is no address: {error}") from None
    if not host:
        raise ValueError(f"{url!r} names no host")
    return url


def _origin(url: str) -> str:
    parts = urlsplit(checked(url))
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is more than a site, such as https://www.example.com")
    netloc = parts.netloc.encode("idna").decode().lower()
    if not re.fullmatch(r"([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]+)?", netloc):
        raise ValueError(f"{url!r} names no host")
    usual = {"https": ":443", "http": ":80"}[parts.scheme]
    return f"{parts.scheme}://{netloc.removesuffix(usual)}"


WebAddress = Annotated[str, AfterValidator(checked), WithJsonSchema({"type": "string", "format": "web-address"})]
Origin = Annotated[str, AfterValidator(_origin)]
"""A site: scheme, host and port."""
