"""The rules of the tree, as data with reasons."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from fleet.errors import TREE

CHECKOUT = Path(__file__).resolve().parents[1]
PROGRAMS = ("fleet", "netctl", "launcher", "worker", "hub", "keyservice", "lab", "bench")
MAY_IMPORT = {
    "fleet": (set[str](), "the vocabulary must stand when every program is broken"),
    "netctl": ({"fleet"}, "the privileged program carries no browser and no lab code"),
    "launcher": ({"fleet"}, "what is root before every worker imports next to nothing"),
    "worker": ({"fleet"}, "what runs pages must not hold code that changes the kernel"),
    "hub": ({"fleet"}, "what people and other servers reach changes no kernel and runs no page"),
    "keyservice": ({"fleet"}, "what hears a stranger's server holds no key, no right and no other program"),
    "lab": ({"fleet"}, "the lab starts the real programs; importing them would test something else"),
    "bench": ({"fleet", "hub", "lab", "launcher"}, "it measures the real programs, in a lab"),
}
OPERATOR = "fleet.operate"
"""The operator's program: no other program may import it."""

ARROWS: dict[str, str] = {
    # The vocabulary: a folder is a room, and so is each file beside them. A row names all that its room imports
    # inside its own package.
    "fleet.client_files": "errors",
    "fleet.db": "errors",
    "fleet.given_up": "sockets",
    "fleet.isolation": "numbers",
    "fleet.log": "imports visible",
    "fleet.model": "backends errors isolation numbers paths settings",
    "fleet.outside": "errors imports log model sockets visible",
    "fleet.paths": "numbers",
    "fleet.plausible": "result",
    "fleet.probes": "sockets visible",
    "fleet.programs": "backends errors isolation machine model sockets visible",
    "fleet.result": "outcomes sockets",
    "fleet.settings": "outcomes paths",
    "fleet.snapshot": "errors machine model settings",
    "fleet.sockets": "errors log",
    "fleet.spool": "errors machine plausible result",
    "fleet.status": "errors model programs result sockets spool supervise",
    "fleet.supervise": "errors log machine programs",
    "fleet.terminal": "errors log look machine outcomes programs visible",
    "fleet.trial": "model result sockets",
    # The operator's program stands on the vocabulary, and only these rows name its own rooms.
    "fleet.operate.__main__": (
        "operate.hub operate.init operate.journal operate.reload operate.trial operate.uninstall operate.verbs "
        "operate.watching"
    ),
    "fleet.operate.borrowed": "operate.ask operate.lifecycle",
    "fleet.operate.doctor": "operate.folders operate.ports operate.render",
    "fleet.operate.init": "operate.configuration",
    "fleet.operate.lifecycle": "operate.accounts operate.configuration operate.folders operate.ports operate.prepare",
    "fleet.operate.overview": "operate.progress",
    "fleet.operate.prepare": "operate.accounts operate.doctor operate.folders operate.render operate.tasks",
    "fleet.operate.progress": "operate.run",
    "fleet.operate.joining": "operate.ports",
    "fleet.operate.members": "operate.accounts operate.folders operate.lifecycle operate.prepare operate.render",
    "fleet.operate.reload": (
        "operate.configuration operate.journal operate.lifecycle operate.members operate.prepare operate.run "
        "operate.tasks"
    ),
    "fleet.operate.run": "operate.lifecycle",
    "fleet.operate.uninstall": "operate.accounts operate.doctor operate.lifecycle operate.prepare",
    "fleet.operate.verbs": (
        "operate.accounts operate.configuration operate.doctor operate.journal operate.lifecycle operate.notify "
        "operate.overview operate.prepare operate.progress operate.render operate.run operate.supervisorctl "
        "operate.trial operate.verify"
    ),
    "fleet.operate.hub": "operate.accounts operate.configuration operate.folders operate.tasks",
    "fleet.operate.trial": "operate.borrowed operate.configuration",
    "fleet.operate.verify": "operate.ask operate.borrowed operate.lifecycle",
    "hub.__main__": "commands declared serve",
    "hub.alerts": "delivery queue",
    "hub.commands": "alerts declared delivery entering exits queue",
    "hub.delivery": "queue spooled",
    "hub.ends": "delivery queue spooled",
    "hub.entering": "declared queue",
    "hub.exits": "doors queue",
    "hub.hosting": "delivery queue service spooled",
    "hub.keeping": "delivery queue",
    "hub.serve": (
        "access alerts commands declared delivery ends exits hosting keeping queue service source traces web"
    ),
    "hub.service": "ends queue spooled",
    "hub.source": "declared delivery entering queue",
    "hub.spooled": "queue",
    "hub.traces": "queue",
    "hub.web": "declared delivery doors entering queue service",
    "keyservice.__main__": "service",
    "keyservice.service": "answers",
    # netctl, from the bottom to the top: a folder is a room.
    "netctl.kernel": "plan",
    "netctl.filter": "plan kernel",
    "netctl.wireguard": "plan kernel threads",
    "netctl.pool": "plan threads",
    "netctl.host": "plan kernel filter wireguard threads",
    "netctl.slots": "plan kernel filter wireguard pool host threads",
    "netctl.privileges": "kernel",
    "netctl.exits": "kernel pool slots",
    "netctl.service": "pool host slots exits turns",
    "netctl.supply": "pool slots",
    "netctl.serve": "kernel filter wireguard pool host slots exits access service supply",
    "netctl.cleanup": "plan kernel filter wireguard pool host slots serve",
    "netctl.keys": "pool",
    "netctl.__main__": "plan kernel filter wireguard keys serve cleanup privileges access",
}
"""Which room imports which, inside one package; what is not here is not allowed, and no circle is.

The order says why: plan is pure values; kernel, filter, wireguard and pool know nothing of one another but what
kernel offers; host applies plans with them; slots decide; the files above them serve requests.
"""

LIBRARIES = {
    "pyroute2": (
        r"netctl/kernel/changes\.py|lab/.*|bench/addresses\.py",
        "its dicts stay behind our own types",
    ),
    "websocket": (r"worker/browser/cdp\.py", "the browser is spoken to in one file"),
    "price_parser": (r"worker/tasks/values\.py", "from text to values in one file"),
    "PIL": (r"worker/tasks/picture\.py|hub/alerts/difference\.py", "heavy; each program decodes in one file"),
    "selenium": (r"worker/browser/\w+\.py", "drivers change; one small interface does not"),
    "undetected_chromedriver": (
        r"worker/browser/undetected\.py",
        "its last release is of 2024; it has to be replaceable",
    ),
    "jinja2": (r"fleet/operate/render\.py|lab/report\.py|hub/web/pages\.py", "text formats are made in one place each"),
    "starlette": (
        r"lab/site/.*|hub/web/(acting|adding|app|asked|guard|places|serving|states)\.py",
        "values are made without knowing who asks for them",
    ),
    "hypercorn": (r"lab/site/.*|hub/web/serving\.py", "one web server for all, and it can be replaced"),
    "sqlalchemy": (
        r"fleet/db\.py|netctl/pool/\w+\.py|hub/queue/.*|hub/delivery/outbox\.py|hub/(source/journal|alerts/recording)\.py|bench/queue\.py",
        "rows never leave the stores",
    ),
    "psycopg": (r"hub/queue/notices\.py", "PostgreSQL is spoken to through SQLAlchemy, but for its notifications"),
    "alembic": (r"hub/queue/(upgrade\.py|migrations/.*)", "tables change in one place"),
    "cronsim": (r"hub/queue/repeat\.py", "one place knows when a job is due again"),
    "sqlite3": (r"netctl/pool/\w+\.py", "rows never leave the stores"),
    "tomllib": (
        r"fleet/operate/configuration\.py|hub/commands/applying\.py",
        "fleet.toml is read by one program; the others read its snapshot; files of jobs are read by who applies them",
    ),
    "tomli": (r"fleet/operate/configuration\.py|hub/commands/applying\.py", "Python 3.10's tomllib"),
    "subprocess": (r"(fleet|worker|lab|bench)/.*", "the privileged programs start no other program"),
    "pyseccomp": (r"worker/seccomp\.py|hub/alerts/difference\.py", "filters are compiled where their calls are known"),
    "xmlrpc": (r"fleet/supervise\.py", "supervisord is spoken to in one file"),
    "prometheus_client": (r"hub/web/metrics\.py", "what is measured, and its names, stand in one place"),
    "protego": (r"worker/robots\.py", "one place knows what robots.txt allows"),
    "httpcore": (r"fleet/outside/(bounded|seen_address)\.py|worker/robots\.py", "the web is asked in one place"),
    "apprise": (r"hub/alerts/apprising\.py", "an extra, and replaceable; its words may hold secrets"),
    "obstore": (r"hub/delivery/buckets\.py", "an extra, and replaceable"),
    "opentelemetry": (r"hub/traces\.py", "an extra, and replaceable"),
    "duckdb": (r"hub/commands/columns\.py", "an extra, and replaceable"),
    "httpx": (r"fleet/outside/calls\.py|lab/.*", "the web is asked in one place, and uploads leave from one"),
    "cryptography": (r"netctl/plan/key\.py|lab/.*", "keys are made and derived in one place"),
    "rich": (r"fleet/terminal/console\.py", "it obeys markup in what it shows, and what it shows are a worker's words"),
    "structlog": (r"fleet/log\.py", "log lines have one form"),
    "ctypes": (
        r"fleet/machine/(bpf|syscalls|spaces)\.py|launcher/landlock\.py|netctl/filter/library\.py",
        "calls without a net stay where they are seen",
    ),
}

LAUNCHER = {
    "fleet.errors",
    "fleet.launch_spec",
    *(f"fleet.machine.{name}" for name in ("bpf", "cgroups", "lockfile", "processes", "spaces", "syscalls")),
}
"""What root runs before every worker: the standard library, and these of ours."""

FORBIDDEN_WORDS = {
    r"(?m)^sudo$": "a password prompt ends an unattended run; a hint to a person may say it",
    r"wg-quick": "it checks, then acts, and its trap deletes the interface of another",
    r"shell\s*=\s*True": "no shell command is built from data",
    r"os\.system\(": "no shell command is built from data",
    r"os\.popen\(": "no shell command is built from data",
    r"\btime\.sleep\(": "wait on the thing itself, with a deadline",
    r"\basyncio\.wait_for\(": "before Python 3.12 it loses cancellations; fleet.sockets.deadline.within does not",
}
STARTS_PROCESSES = {"netctl/kernel/removal.py", "netctl/exits/probe.py"}
"""Where netctl starts a process, its own Python and its own file: to delete a link that may hang, to hear strangers."""
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "base", "manager", "misc"}
MOST_LINES = 300


@dataclass(frozen=True)
class Module:
    """One file of the programs, parsed."""

    path: str
    text: str
    tree: ast.Module

    @property
    def package(self) -> str:
        return self.path.split("/")[0]

    def imports(self) -> Iterator[str]:
        """Every imported module's dotted name; `from a import b` gives `a.b` when that may be a module.

        What is imported for annotations alone is not: it is never loaded.
        """
        annotations = {
            id(inner)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        for node in (one for one in ast.walk(self.tree) if id(one) not in annotations):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.path}: relative import; write the whole name"
                yield from (f"{node.module}.{alias.name}" for alias in node.names)

    def code_words(self) -> str:
        """The file without comments and docstrings: what it does, not what it says."""
        strings = {
            id(node.value)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        kept = [node for node in ast.walk(self.tree) if id(node) not in strings]
        constants = [str(node.value) for node in kept if isinstance(node, ast.Constant)]
        calls = [ast.unparse(node) for node in kept if isinstance(node, ast.Call)]
        return "\n".join(constants + calls)


def modules() -> list[Module]:
    """Every Python file of the programs."""
    found = [path for package in PROGRAMS for path in sorted((CHECKOUT / package).rglob("*.py"))]
    return [
        Module(path=str(path.relative_to(CHECKOUT)), text=path.read_text(), tree=ast.parse(path.read_text()))
        for path in [CHECKOUT / "launch.py", *found]
    ]


MODULES = modules()
each_module = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.path)


ROOMS = {
    f"{package}.{path.stem}"
    for package in PROGRAMS
    for path in (CHECKOUT / package).iterdir()
    if path.suffix == ".py" or (path / "__init__.py").exists()
} | {f"{OPERATOR}.{path.stem}" for path in (CHECKOUT / "fleet/operate").iterdir()}


def room(name: str) -> str:
    """The room of a dotted NAME: the longest known beginning of it."""
    parts = name.split(".")
    known = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((one for one in known if one in ROOMS), parts[0])


def arrows(module: Module) -> set[tuple[str, str]]:
    """From which room to which MODULE's imports lead, inside its own package."""
    here = room(module.path.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    targets = {room(name) for name in module.imports() if name.split(".")[0] == module.package}
    return {(here, target) for target in targets if target not in (here, module.package)}


def allowed(here: str) -> set[str]:
    """The rooms that HERE may import, inside its own package."""
    listed = {f"{here.split('.', maxsplit=1)[0]}.{name}" for name in ARROWS.get(here, "").split()}
    return listed | ({one for one in ROOMS if not one.startswith(OPERATOR)} if here.startswith(OPERATOR) else set())


@each_module
def test_programs_import_only_the_vocabulary(module: Module) -> None:
    """The graph is a star: every program may import fleet's vocabulary, and none another program."""
    may, reason = MAY_IMPORT.get(module.package, (set[str](), ""))
    for name in module.imports():
        package = name.split(".")[0]
        if package not in PROGRAMS or package == module.package:
            continue
        assert package in may, f"{module.path} imports {name}: {reason}"
        assert not name.startswith(OPERATOR), f"{module.path} imports {name}: it is the operator's program"


@each_module
def test_every_arrow_inside_a_program_is_drawn(module: Module) -> None:
    """Inside fleet, netctl and hub each room imports only the rooms that its row names."""
    if module.package in ("fleet", "netctl", "hub", "keyservice"):
        for here, target in arrows(module):
            assert target in allowed(here), f"{module.path} imports {target}, which the row of {here} does not name"


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("netctl/kernel/observe.py", "from netctl.slots.slot import Slot"),
        ("netctl/pool/store.py", "from netctl.kernel import netlink"),
        ("netctl/plan/diff.py", "from netctl import host"),
        ("fleet/sockets/wire.py", "from fleet.terminal import console"),
        ("fleet/status.py", "from fleet.operate import lifecycle"),
    ],
)
def test_a_planted_import_is_found(path: str, line: str) -> None:
    """The control: one wrong import in any of these files is found as an arrow that no row allows."""
    text = f"{(CHECKOUT / path).read_text()}\n{line}\n"
    planted = Module(path=path, text=text, tree=ast.parse(text))
    assert any(target not in allowed(here) for here, target in arrows(planted))


def test_no_row_is_stale_and_none_leads_in_a_circle() -> None:
    """Every arrow of the table exists in the code, and there is no cycle."""
    drawn = {pair for module in MODULES for pair in arrows(module)}
    rows = {(here, f"{here.split('.')[0]}.{name}") for here, names in ARROWS.items() for name in names.split()}
    assert rows <= drawn, f"no import needs {sorted(rows - drawn)}"
    TopologicalSorter({here: {to for one, to in rows if one == here} for here in ARROWS}).prepare()


@each_module
def test_libraries_stay_behind_their_fences(module: Module) -> None:
    """A third-party library is imported in as few files as possible."""
    for name in module.imports():
        fence, reason = LIBRARIES.get(name.split(".")[0], (".*", ""))
        assert re.fullmatch(fence, module.path), f"{module.path} imports {name}: {reason}"


@each_module
def test_launcher_imports_next_to_nothing(module: Module) -> None:
    """Root's last program before a worker starts uses only the standard library."""
    if module.package == "launcher" or module.path[:-3].replace("/", ".") in LAUNCHER:
        names = set(module.imports())
        foreign = {name for name in names if name.split(".")[0] not in {*sys.stdlib_module_names, "launcher"}}
        strange = {name for name in foreign if not any(name == one or name.startswith(f"{one}.") for one in LAUNCHER)}
        assert not strange, f"{module.path} imports {strange}"


@each_module
def test_every_module_says_what_it_is(module: Module) -> None:
    """A module begins with its docstring."""
    assert ast.get_docstring(module.tree), f"{module.path} has no docstring"


@each_module
def test_modules_stay_small_and_are_named_for_the_field(module: Module) -> None:
    """No module has a catch-all name, and none is long: a long one hides two."""
    assert Path(module.path).stem not in FORBIDDEN_NAMES
    lines = module.text.count("\n")
    assert lines <= MOST_LINES, f"{module.path} has {lines} lines"


def test_scripts_and_templates_stay_small() -> None:
    """The programs' files in other languages have the same length limit."""
    found = [path for package in PROGRAMS for path in (CHECKOUT / package).rglob("*") if path.suffix in (".js", ".j2")]
    assert found and [str(path) for path in found if path.read_text().count("\n") > MOST_LINES] == []


@each_module
def test_programs_never_do_what_began_all_this(module: Module) -> None:
    """No sudo, no wg-quick, no shell, no sleeping instead of waiting."""
    words = module.code_words()
    for pattern, reason in FORBIDDEN_WORDS.items():
        if module.package == "bench" and "sleep" in pattern:
            continue  # there the time is what is measured over
        found = re.search(pattern, words)
        assert found is None, f"{module.path}: {found.group() if found else ''!r}: {reason}"


@each_module
def test_netctl_starts_no_program(module: Module) -> None:
    """The privileged program starts no program, except itself in one place."""
    if module.package == "netctl" and module.path not in STARTS_PROCESSES:
        assert not re.search(r"create_subprocess|\bos\.(exec|spawn|posix_spawn|fork)\w*\(", module.code_words())


def error_classes(module: Module) -> list[str]:
    """The classes of MODULE that are errors of the fleet."""
    classes = [node for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)]
    return [one.name for one in classes if {ast.unparse(parent).split(".")[-1] for parent in one.bases} & {*TREE}]


@each_module
def test_errors_stand_in_the_one_tree(module: Module) -> None:
    """An error class outside fleet/errors.py would arrive without its name at a program that has not imported it."""
    if module.path != "fleet/errors.py":
        assert not error_classes(module)


def test_a_planted_error_class_is_found() -> None:
    """The control: a subclass of any class of the tree, in any file."""
    text = "from fleet import errors\nclass Planted(errors.NoKeyFree): ...\n"
    assert error_classes(Module(path="netctl/serve.py", text=text, tree=ast.parse(text))) == ["Planted"]


@pytest.mark.parametrize("path", sorted((CHECKOUT / "tests").rglob("test_*.py")), ids=lambda path: path.name)
def test_every_test_states_the_behaviour(path: Path) -> None:
    """A test's docstring is the promise it checks."""
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), f"{path} has no docstring"
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
            assert ast.get_docstring(node), f"{path.name}: {node.name} has no docstring"
