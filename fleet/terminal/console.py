"""What every command line shares: the parser, error messages and exit codes, tables and JSON.

The answer goes to standard output, everything else to standard error. All of it passes fleet.visible. Only this file
writes to the terminal and uses rich, which would obey markup in data.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, TextIO

from pydantic import JsonValue

from fleet import VERSION, log, programs, visible
from fleet.errors import ExitCode, FleetError, NotAllowed, UsageError, describe
from fleet.machine import processes
from fleet.machine.files import is_full

if TYPE_CHECKING:  # importing rich takes a sixth of a program's start time, and few programs show a table
    from rich.console import Console
    from rich.table import Table as Table  # noqa: PLC0414 - what live_table() shows
    from rich.text import Text

PLAIN_WIDTH = 160
"""Width of a table that does not go to a terminal."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser with an example at the end of its help; mistakes raise UsageError (exit code 64)."""

    def __init__(self, *, example: str, **usual: Any) -> None:
        epilog, layout = f"example: {example}", argparse.RawDescriptionHelpFormatter
        super().__init__(epilog=epilog, formatter_class=layout, **usual)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}", hint=f"{self.prog} --help")


def positive(text: str) -> int:
    """An option's TEXT as an integer of at least 1; raises ArgumentTypeError."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of at least 1")
    return int(text)


WORKERS, KEYS, SERVERS = "_fleet_workers", "_fleet_keys", "_fleet_servers"
"""The kinds of names that completion knows: the names of shell functions."""
# compgen -W (bash(1)) expands its words, also $(...), and these names come from outside: only plain ones are offered.
_PARTS = (
    r"netctl keys list --json 2>/dev/null | sed -n 's/^    \"\(PART\)\": \"\(.*\)\",*$/\2/p' | tr -s ', ' '\n' "
    "| grep -x '[[:alnum:]][[:alnum:].:_@/+-]*' | sort -u"
)
_LISTS = {
    # Workers: their accounts, as accounts.py makes them, which every user may read. Only root may list keys.
    WORKERS: r"getent passwd | sed -n 's/^\(w[1-9][0-9]*\):.*:fleet worker:.*/\1/p'",
    KEYS: _PARTS.replace("PART", r"server\|region\|origin"),
    SERVERS: _PARTS.replace("PART", "server"),
}
_SHELLS = {"bash": '{}() {{ compgen -W "$({})" -- "$1"; }}', "zsh": "{}() {{ compadd $({}) }}"}
_PREAMBLE = {shell: "\n".join(form.format(*one) for one in _LISTS.items()) for shell, form in _SHELLS.items()}
Command = Callable[[argparse.Namespace], "int | None"]
"""Runs a verb; returns the exit code, None for 0."""


class _Completion(argparse.Action):
    """Prints the completion script of a shell and exits."""

    def __call__(self, parser: argparse.ArgumentParser, _space: object, shell: object, _option: object = None) -> None:
        import shtab  # imported here because it takes a tenth of every command's start time

        print(shtab.complete(parser, shell=str(shell), preamble=_PREAMBLE))
        parser.exit()


class _Manual(argparse.Action):
    """Prints the manual page and exits."""

    def __call__(self, parser: argparse.ArgumentParser, _space: object, _words: object, _option: object = None) -> None:
        from fleet.terminal import manual

        print(manual.page(parser))
        parser.exit()


def parser(prog: str, description: str, example: str) -> Parser:
    """A top-level parser with --version, --debug, --completion and --manual."""
    made = Parser(prog=prog, description=description, example=example)
    made.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    made.add_argument("--debug", action="store_true", help="show tracebacks and debug lines")
    words = 'print tab completion for bash, zsh or tcsh: eval "$(%(prog)s --completion bash)"'
    made.add_argument("--completion", choices=("bash", "zsh", "tcsh"), action=_Completion, help=words)
    made.add_argument("--manual", nargs=0, action=_Manual, help="print the manual page: %(prog)s --manual | man -l -")
    return made


def worker(made: Parser, help: str, **usual: Any) -> None:
    """Add the option --worker; completion offers the existing workers."""
    completed(made.add_argument("--worker", metavar="NAME", help=help, **usual), WORKERS)


def completed(option: Any, what: str) -> None:
    """Let completion of OPTION offer WHAT (WORKERS, KEYS, SERVERS)."""
    option.complete = {"bash": what, "zsh": what}


def command(
    nouns: argparse._SubParsersAction[Parser],
    name: str,
    run: Command,
    help: str,
    example: str,
    *,
    root: bool = False,
    answers: bool = False,
    start_seconds: float | None = None,
) -> Parser:
    """Add one verb: its parser, its example, and the function RUN.

    ROOT: only for root. ANSWERS: it has the option --json (answer()). START_SECONDS: supervisord's `startsecs`, if
    supervisord runs this verb.
    """
    made = nouns.add_parser(name, help=help, description=help, example=example)
    made.set_defaults(run=run, parser=made, root=root, start_seconds=start_seconds)
    if answers:
        made.add_argument("--json", action="store_true", help="the whole answer as JSON")
    return made


def main(made: Parser, argv: Sequence[str] | None = None) -> NoReturn:
    """Parse, run, and turn every error into one clear message and its exit code. Does not return."""
    visible.guard()
    debug = "--debug" in (sys.argv[1:] if argv is None else argv)
    arguments = argparse.Namespace()
    try:
        arguments, unknown = made.parse_known_args(argv)
        if unknown:  # reported by the verb's parser, whose help lists its options
            known: Parser = getattr(arguments, "parser", made)
            known.error(f"unrecognized arguments: {' '.join(unknown)}")
        log.configure(debug=arguments.debug)
        run: Command | None = getattr(arguments, "run", None)
        if run is None:
            raise UsageError("say what to do", hint=f"{made.prog} --help")
        if getattr(arguments, "root", False):
            require_root(arguments.parser.prog)
        code = int(run(arguments) or ExitCode.DONE)
        sys.stdout.flush()
    except FleetError as error:
        code = _report(made.prog, error, error.exit_code, debug)
        if code in ExitCode.final() and (seconds := getattr(arguments, "start_seconds", None)):
            processes.outlive(seconds)
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # The reader of our output has ended (`| head`): no error, but nothing more can be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = int(ExitCode.DONE)
    except Exception as error:  # the last place that can report it
        code = _report(made.prog, error, ExitCode.TRY_LATER if is_full(error) else ExitCode.INTERNAL, debug)
    sys.exit(code)


def _report(prog: str, error: Exception, code: ExitCode, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    first, *rest = describe(error)
    kind = "" if isinstance(error, FleetError) else f"{type(error).__name__}: "
    # A message may already begin with the program's name, as in `fleet up needs root`.
    name = "" if not kind and first.startswith((f"{prog} ", f"{prog}: ")) else f"{prog}: "
    say("\n".join([f"{name}{kind}{first}", *(f"  {line}" for line in rest)]))
    programs.tell_error(error)
    return int(code)


def require_root(what: str) -> None:
    """Raise NotAllowed unless this process is root; WHAT is the full command, for the hint."""
    if os.geteuid() != 0:
        raise NotAllowed(f"{what} needs root", hint=f"sudo {what}")


Rows = Sequence[Sequence[str]]


def answer(
    arguments: argparse.Namespace,
    value: JsonValue,
    *lines: str,
    table: tuple[str, Sequence[str], Rows] | None = None,
) -> None:
    """Print VALUE as JSON if --json was given, else TABLE (title, columns, rows) and LINES."""
    if arguments.json:
        print_json(value)
        return
    if table is not None:
        print_table(*table)
    show(*lines)


def show(*lines: str) -> None:
    """Print LINES on standard output."""
    for text in lines:
        print(visible.lines(text))


def copy(file: BinaryIO) -> None:
    """Copy FILE, binary data, to standard output, which must be no terminal."""
    sys.stdout.flush()
    shutil.copyfileobj(file, sys.stdout.buffer)
    sys.stdout.buffer.flush()


def print_json(value: JsonValue) -> None:
    """Print VALUE as indented JSON on standard output, with Korean readable."""
    print(visible.json(json.dumps(value, indent=2, ensure_ascii=False)))


def print_table(title: str, columns: Sequence[str], rows: Rows) -> None:
    """Print a table on standard output; plain text when it is not a terminal.

    On a terminal that is too narrow each row is a block of lines `column: cell`, because cut or folded columns are
    unreadable.
    """
    if title:
        show(title)  # above the table and not in it, because it may be wider
    terminal = _console(sys.stdout, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    table = made_table("", columns, rows)
    needed = terminal.measure(table, options=terminal.options.update(max_width=sys.maxsize)).maximum
    if not terminal.is_terminal or needed <= terminal.width:
        terminal.print(table)
        return
    for first, *others in rows:
        show(first, *(f"  {name}: {text}" for name, text in zip(columns[1:], others, strict=True) if text))


@contextlib.contextmanager
def live_table() -> Iterator[Callable[[Table], None] | None]:
    """Yields a function that replaces the shown table by another made_table(), on standard error.

    Yields None when standard error is no terminal.
    """
    terminal = _console(visible.unguarded_stderr())
    if not terminal.is_terminal:
        yield None
        return
    from rich.live import Live

    with Live(console=terminal, refresh_per_second=4, transient=True) as live:
        visible.guard()  # other output passes through rich meanwhile, which would obey markup
        yield live.update


def _console(file: TextIO, width: int | None = None) -> Console:
    """A console without colours, so that its output has no escape sequences."""
    from rich.console import Console

    return Console(file=file, width=width, color_system=None, markup=False, emoji=False, highlight=False)


def made_table(title: str, columns: Sequence[str], rows: Rows) -> Table:
    """A table of literal cells: a worker may have written them, with markup or control characters."""
    from rich.table import Column, Table

    made = Table(
        *(Column(cell(name), overflow="fold") for name in columns),
        title=cell(title) if title else None,
        title_justify="left",
    )
    for row in rows:
        made.add_row(*map(cell, row))
    return made


def cell(words: str) -> Text:
    from rich.text import Text

    return Text(visible.lines(words))


def say(text: str) -> None:
    """Print TEXT for people on standard error; does not fail when its reader is gone."""
    with contextlib.suppress(BrokenPipeError, ValueError):
        print(visible.lines(text), file=sys.stderr, flush=True)
