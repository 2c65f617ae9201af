"""`fleet db`, which works as the hub's account, as an operator types it."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

from fleet.errors import ExitCode
from hub.queue.upgrade import VERSION
from lab.run import program


def test_the_tables_are_made_by_one_command() -> None:
    """Before it, the status names that command; after it, the version; only its owner may read the database file."""
    # A folder that every account can enter.
    with tempfile.TemporaryDirectory(prefix="fleet-hub-") as name:
        place = Path(name)
        place.chmod(0o755)
        config = place / "etc/fleet/fleet.toml"
        config.parent.mkdir(parents=True)
        config.write_text('[dns]\nresolvers = ["198.18.0.53"]\n[egress]\nurls = ["https://shop.test/ip"]\n')

        def db(*words: str) -> subprocess.CompletedProcess[str]:
            environment = {"FLEET_ROOT": name, "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}
            argv = [*program("fleet"), "db", *words]
            return subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)

        before = db("status")
        assert before.returncode == ExitCode.CONFIGURATION and "fleet db upgrade" in before.stderr
        assert json.loads(db("upgrade", "--json").stdout) == {"before": 0, "after": VERSION}
        assert db("upgrade").stdout == f"the database is of version {VERSION}, as before\n"
        assert (place / "var/lib/fleet/hub").stat().st_mode & 0o077 == 0
