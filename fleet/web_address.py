"""An address of the web, as settings name them."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator


def _web_address(url: str) -> str:
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"{url!r} is no http or https address")
    if re.search(r"[\s\x00-\x1f<>\"]", url):
        raise ValueError(f"{url!r} holds a blank, or another sign that no address has; write it as %20 and the like")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError as error:
        raise ValueError(f"{url!r} is no address: {error}") from None
    if not host:
        raise ValueError(f"{url!r} names no host")
    return url


WebAddress = Annotated[str, AfterValidator(_web_address)]
