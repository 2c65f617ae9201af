"""The border to the terminal: in tables, live, in errors and log lines nothing but text, and there is no other way."""

from __future__ import annotations

import ast
import json
import os
import pty
import re
import subprocess
import sys
import unicodedata

import pytest

from fleet import visible
from tests.fleets import CHECKOUT
from tests.hostile.mutants import ESCAPES
from tests.hostile.readers import obeyed
from tests.test_layers import Module, each_module

KEPT = "한국어 ㅋㅋ 각 e\u0301 ñ ☕️ 👨‍👩‍👧 👩🏽‍💻 ❤️‍🔥 日本\u3000語"
SCOTLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"
SAYS = {
    "fleet/terminal/console.py": "the border itself",
    "fleet/log.py": "log lines, each through fleet.visible",
    "fleet/programs.py": "an error as data, for the program that reads it",
    "fleet/operate/verify/control.py": "its answer, for the program that asked",
    "fleet/operate/rearm.py": "two fixed words, for supervisord",
    "hub/alerts/difference.py": "its answer, for the hub that asked",
    "netctl/exits/ask.py": "its answer, for netctl",
    "launcher/__main__.py": "root's own words, without a library",
    "launcher/mounts.py": "root's own words, without a library",
    "lab/enter.py": "root's own words, without a library",
    "lab/keyservice.py": "one word, that it serves",
}
"""Who may write to standard output and standard error; everybody else says it by fleet.terminal.console."""
_WRITES = re.compile(r"(?<![\w.])print\(|\bsys\.(stdout|stderr)\.(write|buffer)|\b__std(out|err)__|os\.write\([12],")
PROGRAM = """
import sys
from fleet import log
from fleet.terminal import console
from fleet.errors import FleetError
data = sys.argv.pop(1).encode().decode("unicode_escape")
def run(arguments):
    log.configure()
    log.get("test").warning("said", reason=data)
    console.say(data)
    console.print_table(data, ("worker", data), [(data, "[/bad]"), ("w1102", data)])
    with console.live_table() as show:
        assert show
        show(console.made_table("title", ("worker",), [(data,)]))
        print(data)
        log.get("test").warning("meanwhile", reason=data)
    print(data, file=sys.stderr)
    raise FleetError(data, hint=data)
made = console.parser("program", "x", "x")
made.set_defaults(run=run)
console.main(made, ["--debug"] if len(sys.argv) > 1 else [])
"""
RICHS_OWN = re.compile("\x1b\\[(?:\\?25[lh]|1A|2K|1B|H)")
"""Of the live table: the cursor off and on, up a line, a line cleared."""


def on_a_terminal(program: str, *words: str) -> str:
    """What a person sees of PROGRAM."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", program, *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=CHECKOUT,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "240"},
    )
    os.close(theirs)
    seen = read_all(ours)
    child.wait(30)
    return seen


def read_all(terminal: int, until: bytes = b"") -> str:
    """All that comes to TERMINAL, a pty's master; no more than what ends with UNTIL."""
    seen = b""
    try:
        while not (until and until in seen) and (piece := os.read(terminal, 65536)):
            seen += piece
    except OSError:  # EIO: whoever wrote has ended
        pass
    os.close(terminal)
    return seen.decode().replace("\r\n", "\n")


def test_everything_that_is_not_text_is_shown_by_its_number() -> None:
    """Every character of Unicode that is no text, and no other; Korean, emoji and combining marks stay as they are."""
    for code in range(0x110000):
        letter = chr(code)
        unseen = unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        if unicodedata.category(letter) != "Cn":
            assert (visible.line(letter) != letter) == unseen, hex(code)
    assert visible.line(KEPT + SCOTLAND) == KEPT + SCOTLAND
    assert visible.line("\x1b\x9b\u202e\n") == r"\x1b\x9b\u202e\x0a"
    assert visible.lines("a\nb\u2028") == "a\nb\\u2028"


def test_json_says_the_same_with_escapes() -> None:
    """Whoever reads it reads what was meant, half letters and tags too."""
    words = f"{ESCAPES}{KEPT}\ud800\U000e0041"
    text = visible.json(json.dumps({words: words}, ensure_ascii=False))
    assert json.loads(text) == {words: words}
    assert obeyed(text) <= {"\u200d"} and "한국어" in text


@pytest.mark.parametrize("words", [(), ("--debug",)], ids=["plain", "debug"])
def test_nothing_but_text_on_a_terminal(words: tuple[str, ...]) -> None:
    """Tables, live tables, prints beside them, log lines, errors and tracebacks of a program on a real terminal."""
    seen = on_a_terminal(PROGRAM, ESCAPES.encode("unicode_escape").decode(), *words)
    plain = RICHS_OWN.sub("", seen).replace("\r", "")
    assert not obeyed(plain), [line for line in plain.splitlines() if obeyed(line)]
    assert "[/bad]" in plain and r"\x1b]52;c;" in plain and r"\u202e" in plain


def test_a_printer_without_the_border_is_seen() -> None:
    """The control: the same words on the same terminal."""
    seen = on_a_terminal("import sys; print(sys.argv[1].encode().decode('unicode_escape'))", r"\x1b[2J\u202e")
    assert obeyed(seen) >= {"\x1b", "\u202e"}


def writes(module: Module) -> bool:
    """Whether MODULE writes to a terminal itself."""
    return _WRITES.search(module.code_words()) is not None


@each_module
def test_one_border_to_the_terminal(module: Module) -> None:
    """What a page, a worker or a stranger has written reaches a terminal through fleet.terminal.console alone."""
    if module.package != "bench":
        assert writes(module) == (module.path in SAYS), f"{module.path}: say it by fleet.terminal.console"


@pytest.mark.parametrize("line", ["print(result.run)", "sys.stderr.write(text)", "sys.stdout.buffer.write(data)"])
def test_a_planted_printer_is_found(line: str) -> None:
    """The control: a word to the terminal in any other file."""
    text = f"import sys\n{line}\n"
    assert writes(Module(path="fleet/status.py", text=text, tree=ast.parse(text)))
