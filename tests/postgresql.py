"""A PostgreSQL of one's own: Debian's server in a temporary folder, on a private socket, as an unprivileged user."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from shutil import rmtree
from typing import Any

import psutil
import psycopg
import pytest

from tests.waiting import until

OLDEST = 14
"""Ubuntu 22.04 has this one."""
ACCOUNT = "nobody"
"""PostgreSQL refuses to run as root."""
_numbers = count()


def programs() -> Path | None:
    """The newest server's programs; None where there is none."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    versions = {int(path.parent.name): path for path in found if path.parent.name.isdigit()}
    return versions[max(versions)] if versions and max(versions) >= OLDEST else None


class Server:
    """A server that runs. SAFE: what is committed survives a loss of power, as it is measured; tests need it not."""

    def __init__(self, bin_folder: Path, *, safe: bool = False) -> None:
        self._bin = bin_folder
        self.folder = Path(tempfile.mkdtemp(prefix="fleet-pg-"))
        self._who: dict[str, Any] = (
            {"user": ACCOUNT, "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        )
        if self._who:
            self.folder.chmod(0o755)
            os.chown(self.folder, 65534, 65534)
        self._run("initdb", "-D", "data", "-A", "trust", "-U", "fleet", "-E", "UTF8", "--locale=C", "--no-sync")
        self._settings = {
            "listen_addresses": "''",
            "unix_socket_directories": f"'{self.folder}'",
            "max_connections": "50",
        }
        if not safe:
            self._settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server on its data, and wait until it answers."""
        words = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value.strip(chr(39))}")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                # However this process ends, its server ends too.
                ["setpriv", "--pdeathsig=QUIT", str(self._bin / "postgres"), "-D", "data", *words],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._who,
            )
        until("PostgreSQL answers", self._answers, 30, lambda: (self.folder / "log").read_text()[-2000:])
        return self.process

    def deadlocks(self) -> int:
        """How many circles of transactions it has found so far."""
        return (self.folder / "log").read_text().count("deadlock detected")

    def kill(self) -> None:
        """End every process of it at once, as a crash does."""
        for one in [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children()]:
            with suppress(psutil.NoSuchProcess):  # it has ended by itself
                one.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it, without a care for its data, and remove all of it."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(30)
        rmtree(self.folder)

    def fresh(self, template: str = "template1") -> str:
        """The address of a new database, empty or like TEMPLATE, which nobody may be using."""
        name = f"fleet{next(_numbers)}"
        with psycopg.connect(host=str(self.folder), user="fleet", dbname="postgres", autocommit=True) as db:
            db.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return f"postgresql://fleet@/{name}?host={self.folder}"

    def _answers(self) -> bool:
        try:
            psycopg.connect(host=str(self.folder), user="fleet", dbname="postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *words: str) -> None:
        argv = [str(self._bin / program), *words]
        subprocess.run(argv, cwd=self.folder, check=True, capture_output=True, **self._who)


@contextmanager
def running(*, safe: bool = False) -> Iterator[Server]:
    """A server; where this machine has none, the test is skipped, and in bin/test and CI that is a failure."""
    if (found := programs()) is None:
        pytest.skip(
            f"NOT CHECKED: no PostgreSQL of version {OLDEST} or later is here; sudo bin/setup --dev installs it"
        )
    server = Server(found, safe=safe)
    try:
        yield server
    finally:
        server.stop()
