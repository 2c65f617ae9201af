"""What no program may load at its start: of the time in which one starts, most goes into libraries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
NEVER = "rich pygments trio h2 click pytest jinja2 alembic"
"""What none of them needs before it is asked for something."""
BROWSER = "selenium undetected_chromedriver price_parser"
STORES = "sqlalchemy psycopg pyroute2"
WEB = "httpx httpcore starlette hypercorn"
HEAVY = {
    "fleet.operate.__main__": f"{STORES} {WEB} {BROWSER}",
    "fleet.operate.rearm": f"{STORES} {WEB} {BROWSER} psutil",
    "fleet.operate.acts": f"{STORES} {WEB} {BROWSER} psutil",
    "netctl.__main__": f"{STORES} {WEB} {BROWSER} psutil",
    "netctl.serve": f"psycopg sqlalchemy.dialects.postgresql pyroute2.ndb.main {WEB} {BROWSER} psutil",
    "netctl.exits.ask": f"{STORES} anyio httpx starlette hypercorn {BROWSER} psutil",
    "worker.__main__": f"{STORES} {WEB} {BROWSER}",
    "worker.loop": f"{STORES} httpx starlette hypercorn undetected_chromedriver",
    "hub.__main__": f"{STORES} {WEB} {BROWSER} psutil",
    "hub.serve": f"psycopg pyroute2 httpcore starlette hypercorn {BROWSER} psutil",
    "keyservice.service": f"{STORES} starlette hypercorn {BROWSER} psutil",
    "hub.alerts.difference": f"{STORES} {WEB} {BROWSER} pydantic asyncio",
    "launcher.__main__": f"{STORES} {WEB} {BROWSER} pydantic asyncio structlog inspect",
}
LOADED = """
import sys
sys.path.insert(0, sys.argv[1])
exec(sys.argv[2])
print(*(name for name, module in sys.modules.items() if module))
"""


def loaded(words: str) -> set[str]:
    """The modules of a Python that has run WORDS, as a program of the fleet is started."""
    argv = [sys.executable, "-I", "-c", LOADED, str(CHECKOUT), words]
    return set(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("program", HEAVY)
def test_a_program_loads_only_what_it_needs(program: str) -> None:
    """No program imports, before it is asked for something, a library that it may never use."""
    found = loaded(f"import {program}") & {*NEVER.split(), *HEAVY[program].split()}
    assert not found, f"{program} imports {sorted(found)}: import it where it is used"


def test_what_is_hidden_from_one_library_is_there_for_others() -> None:
    """The control: the same look sees a library that is loaded. What `absent` and `bare` keep out can still be had."""
    words = "import fleet.log, fleet.outside.seen_address, netctl.kernel.changes, rich.table, trio, pyroute2.ipdb"
    assert {"rich", "trio", "pyroute2.ndb.main"} <= loaded(words)
    assert {"rich", "trio"} <= loaded("import structlog, httpcore"), "nothing has to be hidden any more"
