"""A bucket of an S3 service: each file of a run is put there once under its name, and never overwrites another.

The library's own retries are off: it ignores how long a server wants to be left alone, and an undelivered file
waits in the outbox.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fleet import visible
from fleet.errors import ConfigurationError
from fleet.outside.calls import Later, Refused, lines_of
from fleet.settings.hub import TargetSettings
from fleet.sockets.deadline import within
from hub.delivery.pictures import kind

if TYPE_CHECKING:
    from obstore.store import S3Store

_KEYS = ("access_key_id", "secret_access_key")


class Bucket:
    """The bucket of the target NAME. Raises ConfigurationError without its keys or the library."""

    def __init__(self, name: str, target: TargetSettings) -> None:
        self._seconds = target.timeout_seconds
        self._secret, self._store = _opened(f"hub.targets.{name}", target)

    async def put(self, files: Mapping[str, bytes]) -> None:
        """Put FILES, each under its key, in order. Raises Later, Refused."""
        for key, content in files.items():
            try:
                await within(self._seconds, self._put(key, content))
            except asyncio.TimeoutError:
                raise Later(f"no complete answer within {self._seconds:g} s") from None

    async def _put(self, key: str, content: bytes) -> None:
        import obstore
        from obstore.exceptions import AlreadyExistsError, BaseError

        attributes = {"Content-Type": kind(key)}
        try:
            try:
                await obstore.put_async(self._store, key, content, mode="create", attributes=attributes)
            except AlreadyExistsError:
                if not await self._is_there(key, content):
                    raise Refused(f"the bucket has another file under {key}") from None
        except BaseError as error:  # also forbidden or missing: somebody may correct that
            text = str(error).partition("\n")[0].replace(self._secret, "***")
            raise Later(visible.line(f"{type(error).__name__}: {text}")[:500]) from None

    async def _is_there(self, key: str, content: bytes) -> bool:
        import obstore

        if (await obstore.head_async(self._store, key))["size"] != len(content):
            return False
        found = await (await obstore.get_async(self._store, key)).bytes_async()
        return hashlib.sha256(found).digest() == hashlib.sha256(content).digest()


def _opened(table: str, target: TargetSettings) -> tuple[str, S3Store]:
    try:
        from obstore.store import S3Store
    except ImportError:
        raise ConfigurationError(
            f"{table}.url: s3:// needs a library that is not installed", hint="sudo bin/setup --extras"
        ) from None
    keys = lines_of(f"{table}.keys_file", target.keys_file)
    if sorted(keys) != sorted(_KEYS):
        raise ConfigurationError(f"{table}.keys_file: {target.keys_file} must have only the lines {', '.join(_KEYS)}")
    parts, patience = urlsplit(target.url), timedelta(seconds=target.timeout_seconds)
    store = S3Store(
        parts.netloc,
        prefix=None,
        # A self-hosted service seldom has a host name for each bucket.
        endpoint=target.endpoint or None,
        virtual_hosted_style_request=not target.endpoint,
        region=target.region,
        access_key_id=keys["access_key_id"],
        secret_access_key=keys["secret_access_key"],
        checksum_algorithm="SHA256",
        client_options={"allow_http": target.insecure_http, "timeout": patience, "connect_timeout": patience},
        retry_config={"max_retries": 0, "retry_timeout": patience},
    )
    return keys["secret_access_key"], store
