"""Signatures that tell a receiver who sent a message, and that it is new (standardwebhooks.com)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from pathlib import Path

from fleet.errors import ConfigurationError


def secret_of(key: str, file: str) -> str:
    """The secret in FILE, "" without one; raises ConfigurationError, which names KEY, the setting."""
    if not file:
        return ""
    try:
        secret = Path(file).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not ASCII"
        raise ConfigurationError(f"{key}: {file}: {why}", hint="the user fleet-hub must be able to read it") from None
    if not secret:
        raise ConfigurationError(f"{key}: {file} is empty", hint="one line, the secret")
    try:
        _key(secret)
    except ValueError:
        raise ConfigurationError(f"{key}: {file}: the part after whsec_ is empty or not base64") from None
    return secret


def signed(once: str, body: bytes, secret: str, now: int | None = None) -> dict[str, str]:
    """The headers of BODY, whose id is ONCE; no signature without a SECRET."""
    moment = int(time.time()) if now is None else now
    # A dot separates the signed parts: an id with dots would have the same signature as another id, time and body.
    once = once.replace(".", "-")
    headers = {"webhook-id": once, "webhook-timestamp": str(moment)}
    if secret:
        sum_of = hmac.new(_key(secret), f"{once}.{moment}.".encode() + body, hashlib.sha256).digest()
        headers["webhook-signature"] = f"v1,{base64.b64encode(sum_of).decode()}"
    return headers


def _key(secret: str) -> bytes:
    if not secret.startswith("whsec_"):
        return secret.encode()
    if key := base64.b64decode(secret.removeprefix("whsec_"), validate=True):
        return key
    raise ValueError("no key")
