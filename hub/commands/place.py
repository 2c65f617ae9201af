"""What every command works with: the settings, the database, and a running hub."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from fleet import snapshot
from fleet.db import Database
from fleet.errors import ConfigurationError, FleetError, UsageError
from fleet.machine.files import write_durably
from fleet.model import Fleet, Paths
from fleet.snapshot import Snapshot
from fleet.sockets.client import Client
from fleet.sockets.hub_api import Ring
from fleet.sockets.wire import Done
from hub import entering
from hub.alerts.recording import recorder as alerting
from hub.declared import Declared
from hub.delivery.outbox import recorder
from hub.queue.store import Store
from hub.queue.upgrade import check
from hub.queue.values import moment as of_seconds

_RING_SECONDS = 5.0
_MACHINE = Path("/etc/machine-id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An open queue."""

    fleet: Fleet
    declared: Declared
    paths: Paths
    database: Database
    store: Store


def database(arguments: argparse.Namespace) -> tuple[Snapshot, Paths, Database]:
    """The settings and their database; its tables are not checked."""
    started, paths = snapshot.read(arguments.settings), Paths.from_environment()
    fleet = started.fleet
    if not fleet.hub.database:
        try:
            paths.hub_database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"{paths.hub_database.parent} cannot be made: {error.strerror}") from None
    return started, paths, Database(fleet.hub.address(paths))


@contextlib.contextmanager
def opened(arguments: argparse.Namespace) -> Iterator[Place]:
    """The queue; raises ConfigurationError if this release cannot use its tables. A change rings the hub."""
    started, paths, found = database(arguments)
    fleet = started.fleet
    rung: list[None] = []
    try:
        check(found)
        # A run that a command ends has no pictures on this host.
        own = host_name(paths)
        record = alerting(fleet.hub.alerts, own, recorder(own))
        store = Store(found, lambda: rung.append(None), record=record)
        yield Place(fleet=fleet, declared=Declared(started.tasks), paths=paths, database=found, store=store)
    finally:
        found.close()
        if rung:
            ring(paths)


def host_name(paths: Paths) -> str:
    """The name of this host's fleet, distinct from all others that share the database.

    Deliveries and pictures belong to a host by its name, so the first name of the machine is kept in a file and stays
    after it is renamed. A copy of that file on another machine (machine-id(5)) does not count.
    """
    import socket

    machine = _MACHINE.read_text().strip() if _MACHINE.exists() else ""
    name: str | None
    of: str | None
    try:
        name, of = json.loads(paths.hub_host.read_text())
    except (OSError, ValueError):
        name = of = None
    if name is None or of != machine:
        name = socket.gethostname()
        with contextlib.suppress(OSError):  # on a full disk the next call writes it
            write_durably(paths.hub_host, json.dumps([name, machine]).encode(), 0o644)
    return name + ("" if str(paths.root) == "/" else f":{paths.root}")


def ring(paths: Paths) -> None:
    """Tell a running hub to look."""
    with contextlib.suppress(FleetError), Client(paths.hub_socket, timeout_seconds=_RING_SECONDS) as client:
        client.ask(Ring(), Done)


def moment(value: JsonValue) -> str:
    """A time of the database for people, in UTC."""
    return f"{of_seconds(value):%m-%d %H:%M:%S}" if isinstance(value, int | float) else "-"


def read_text(arguments: argparse.Namespace) -> str:
    """The content of a command's FILE, "-": standard input. Raises UsageError."""
    name, given = arguments.file, arguments.file_is_given or arguments.file == "-"
    try:
        with open(sys.stdin.fileno(), "rb", closefd=False) if given else Path(name).open("rb") as file:
            content = file.read(entering.MOST_BYTES + 1)
        if len(content) > entering.MOST_BYTES:
            raise UsageError(f"{name} has more than {entering.MOST_BYTES >> 20} MiB", hint="add it in parts")
        return content.decode()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else f"is not UTF-8: {error}"
        hint = "a file in UTF-8, or - for standard input"
        raise UsageError(f"{name} cannot be read: {why}", hint=hint) from None
