"""`keyservice serve` is run by supervisord; `keyservice check` tells whether this account can use the settings."""

from __future__ import annotations

import argparse
import asyncio
import grp
import stat
from pathlib import Path

from fleet import snapshot
from fleet.errors import ConfigurationError
from fleet.machine import processes
from fleet.model import ACCOUNT_GROUP, NETCTL_ACCOUNT, Paths
from fleet.outside.calls import Web
from fleet.settings.keys import KeyServiceSettings
from fleet.sockets.callers import Caller, Limits, only
from fleet.sockets.keyservice_api import TABLE
from fleet.sockets.rpc import Server
from fleet.terminal import console
from keyservice.service import KeyService

_MOST_REQUESTS = 1_000.0


def main() -> None:
    """Parse and run."""
    top = console.parser("keyservice", "Speaks HTTP to a key service, for netctl alone.", "keyservice serve")
    snapshot.add_option(top)
    verbs = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    words, seconds = "serve netctl until told to stop (supervisord runs this)", processes.NETCTL_START_SECONDS
    console.command(verbs, "serve", _serve, words, "keyservice serve", start_seconds=seconds)
    console.command(verbs, "check", _check, "report what is wrong with the settings", "keyservice check")
    console.main(top)


def _check(arguments: argparse.Namespace) -> None:
    _web(_settings(arguments))


def _serve(arguments: argparse.Namespace) -> None:
    settings = _settings(arguments)
    asyncio.run(serve(settings, _web(settings), Paths.from_environment().keyservice_socket))


def _settings(arguments: argparse.Namespace) -> KeyServiceSettings:
    settings = snapshot.read(arguments.settings).fleet.keys.source
    if settings is None:
        raise ConfigurationError("fleet.toml has no [keys.source]")
    return settings


def _web(settings: KeyServiceSettings) -> Web:
    """Raises ConfigurationError for a headers file that cannot be read, or that workers can read."""
    web = Web("keys.source", settings)
    if settings.headers_file:
        found, workers = Path(settings.headers_file).stat(), grp.getgrnam(ACCOUNT_GROUP).gr_gid
        if found.st_mode & stat.S_IROTH or (found.st_mode & stat.S_IRGRP and found.st_gid == workers):
            raise ConfigurationError(
                f"keys.source.headers_file: workers can read {settings.headers_file}",
                hint=f"chown fleet-keys {settings.headers_file}; chmod 600 {settings.headers_file}",
            )
    return web


async def serve(settings: KeyServiceSettings, web: Web, path: Path) -> None:
    """Until SIGTERM or SIGINT."""
    netctl = only(NETCTL_ACCOUNT, Caller.OPERATOR)
    rates = Limits(connections_per_uid=64, connections_per_second=_MOST_REQUESTS, requests_per_second=_MOST_REQUESTS)
    server = Server(TABLE, KeyService(settings, web), caller=netctl, limits=rates)
    await server.serve(path)


if __name__ == "__main__":
    main()
