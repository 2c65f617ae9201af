"""The rules of the tree, as data with reasons."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
PROGRAMS = ("fleet", "netctl", "worker", "lab")
VOCABULARY = {
    *("model", "numbers", "paths", "isolation", "spaces", "cgroups", "wire", "rpc", "result", "errors"),
    "probes",
    *("log", "console", "deadline", "interrupts", "syscalls", "callers", "listen", "bucket"),
}
"""The part of `fleet` that others may import; the rest is the operator's program."""

MAY_IMPORT = {
    "fleet": (set[str](), "the vocabulary must stand when every program is broken"),
    "netctl": ({"fleet"}, "the privileged program carries no browser and no lab code"),
    "worker": ({"fleet"}, "what runs pages must not hold code that changes the kernel"),
    "lab": ({"fleet"}, "the lab starts the real programs; importing them would test something else"),
}

LIBRARIES = {
    "pyroute2": (
        r"netctl/changes\.py|netctl/wireguard/kernel\.py|lab/.*",
        "its dicts stay behind our own types",
    ),
    "selenium": (r"worker/browser/\w+\.py", "drivers change; one small interface does not"),
    "undetected_chromedriver": (r"worker/browser/\w+\.py", "its last release is of 2024; it has to be replaceable"),
    "jinja2": (r"fleet/render\.py|lab/report\.py", "text formats are made in one place each"),
    "sqlalchemy": (r"netctl/(keys|leases|choice|schema)\.py", "rows never leave the stores"),
    "sqlite3": (r"netctl/(keys|leases|choice|schema)\.py", "rows never leave the stores"),
    "subprocess": (
        r"fleet/.*|worker/.*|lab/.*|netctl/nftables\.py",
        "the privileged program runs nothing, but for one fixed call of nft if the library is not there",
    ),
    "pyseccomp": (r"worker/launch\.py", "loaded as root in front of every worker"),
    "xmlrpc": (r"fleet/supervise\.py", "supervisord is spoken to in one file"),
}

LAUNCHER = {
    "worker/launch.py": {"fleet.cgroups", "fleet.spaces", "fleet.syscalls", "worker.mounts"},
    "fleet/cgroups.py": set[str](),
    "fleet/spaces.py": {"fleet.syscalls"},
    "worker/mounts.py": {"fleet.spaces", "fleet.syscalls"},
}
"""What root runs in front of every worker: the standard library, one seccomp library, and these of ours."""

FORBIDDEN_WORDS = {
    r"(?m)^sudo$": "a password prompt ends an unattended run; a hint to a person may say it",
    r"wg-quick": "it checks, then acts, and its trap deletes the interface of another",
    r"shell\s*=\s*True": "no shell command is built from data",
    r"os\.system\(": "no shell command is built from data",
    r"os\.popen\(": "no shell command is built from data",
    r"\btime\.sleep\(": "wait on the thing itself, with a deadline",
    r"\basyncio\.wait_for\(": "before Python 3.12 it loses cancellations; fleet.deadline.within does not",
}
STARTS_PROCESSES = {"netctl/removal.py"}
"""Where netctl starts a process: its own Python and its own file, to delete a link that may hang."""
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "base", "manager", "misc"}
MOST_LINES = 350


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
        """Every imported module's dotted name; `from a import b` gives `a.b` when that may be a module."""
        for node in ast.walk(self.tree):
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


@each_module
def test_programs_import_only_the_vocabulary(module: Module) -> None:
    """The graph is a star: everybody may import fleet's vocabulary, nobody anything else of ours."""
    allowed, reason = MAY_IMPORT.get(module.package, (set[str](), ""))
    for name in module.imports():
        parts = name.split(".")
        if parts[0] not in PROGRAMS or parts[0] == module.package:
            continue
        assert parts[0] in allowed, f"{module.path} imports {name}: {reason}"
        assert parts[1] in VOCABULARY, f"{module.path} imports {name}, the operator's half of fleet"


@each_module
def test_vocabulary_does_not_lean_on_the_operator(module: Module) -> None:
    """What everybody imports must not pull the operator's program in."""
    if module.package != "fleet" or Path(module.path).stem not in VOCABULARY:
        return
    for name in module.imports():
        if name.startswith("fleet."):
            assert name.split(".")[1] in VOCABULARY, f"{module.path} imports {name}"


@each_module
def test_libraries_stay_behind_their_fences(module: Module) -> None:
    """A foreign library lives in as few files as possible."""
    for name in module.imports():
        fence, reason = LIBRARIES.get(name.split(".")[0], (".*", ""))
        assert re.fullmatch(fence, module.path), f"{module.path} imports {name}: {reason}"


@each_module
def test_launcher_imports_next_to_nothing(module: Module) -> None:
    """Root's last act before a worker runs on the standard library and one seccomp library."""
    if module.path not in LAUNCHER:
        return
    ours = {name for name in module.imports() if name.split(".")[0] in PROGRAMS}
    assert ours <= LAUNCHER[module.path], f"{module.path} imports {ours - LAUNCHER[module.path]}"
    assert not {"pydantic", "structlog", "rich"} & {name.split(".")[0] for name in module.imports()}


@each_module
def test_every_module_says_what_it_is(module: Module) -> None:
    """A module begins with its docstring."""
    assert ast.get_docstring(module.tree), f"{module.path} has no docstring"


@each_module
def test_modules_stay_small_and_are_named_for_the_field(module: Module) -> None:
    """A file that is everybody's drawer is nobody's; a long one hides two."""
    assert Path(module.path).stem not in FORBIDDEN_NAMES
    lines = module.text.count("\n")
    assert lines <= MOST_LINES, f"{module.path} has {lines} lines"


@each_module
def test_programs_never_do_what_began_all_this(module: Module) -> None:
    """No sudo, no wg-quick, no shell, no sleeping instead of waiting."""
    words = module.code_words()
    for pattern, reason in FORBIDDEN_WORDS.items():
        found = re.search(pattern, words)
        assert found is None, f"{module.path}: {found.group() if found else ''!r}: {reason}"


@each_module
def test_netctl_starts_no_program(module: Module) -> None:
    """The privileged program runs nothing, but for itself in one place."""
    if module.package == "netctl" and module.path not in STARTS_PROCESSES:
        assert not re.search(r"create_subprocess|\bos\.(exec|spawn|posix_spawn|fork)\w*\(", module.code_words())


@pytest.mark.parametrize("path", sorted((CHECKOUT / "tests").rglob("test_*.py")), ids=lambda path: path.name)
def test_every_test_states_the_behaviour(path: Path) -> None:
    """A test's docstring is the promise it checks."""
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), f"{path} has no docstring"
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
            assert ast.get_docstring(node), f"{path.name}: {node.name} has no docstring"
