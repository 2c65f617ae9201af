"""What every command line shares: the parser's habits, errors to exit codes, tables beside JSON.

Standard output is the answer, standard error everything else. All of it passes fleet.visible: this file is the border
to the terminal, and rich, which would obey markup in data, is in no other.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
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

if TYPE_CHECKING:  # a sixth of the time in which any program starts, and few show a table
    from rich.console import Console
    from rich.table import Table as Table  # noqa: PLC0414 - what live_table() shows
    from rich.text import Text

PLAIN_WIDTH = 160
"""Of a table that is no terminal's to see."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser with an example at the end of its help, whose mistakes are errors of ours: exit code 64."""

    def __init__(self, *, example: str, **usual: Any) -> None:
        epilog, layout = f"example: {example}", argparse.RawDescriptionHelpFormatter
        super().__init__(epilog=epilog, formatter_class=layout, **usual)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}", hint=f"{self.prog} --help")


def positive(text: str) -> int:
    """An option's TEXT as a number of at least 1."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of at least 1")
    return int(text)


WORKERS, KEYS, SERVERS = "_fleet_workers", "_fleet_keys", "_fleet_servers"
"""What completion knows, by the names of the shell's functions."""
# compgen -W (bash(1)) expands its words, $(...) in them too, and strangers have named these: plain ones are offered.
_PARTS = (
    r"netctl keys list --json 2>/dev/null | sed -n 's/^    \"\(PART\)\": \"\(.*\)\",*$/\2/p' | tr -s ', ' '\n' "
    "| grep -x '[[:alnum:]][[:alnum:].:_@/+-]*' | sort -u"
)
_LISTS = {
    # Their accounts, as accounts.py makes them: everybody may read these. Keys are root's to list.
    WORKERS: r"getent passwd | sed -n 's/^\(w[1-9][0-9]*\):.*:fleet worker:.*/\1/p'",
    KEYS: _PARTS.replace("PART", r"server\|region\|origin"),
    SERVERS: _PARTS.replace("PART", "server"),
}
_SHELLS = {"bash": '{}() {{ compgen -W "$({})" -- "$1"; }}', "zsh": "{}() {{ compadd $({}) }}"}
_PREAMBLE = {shell: "\n".join(form.format(*one) for one in _LISTS.items()) for shell, form in _SHELLS.items()}
Command = Callable[[argparse.Namespace], "int | None"]
"""Runs a verb; gives the exit code, None for 0."""


class _Completion(argparse.Action):
    """Prints the completion for a shell, and ends."""

    def __call__(self, parser: argparse.ArgumentParser, _space: object, shell: object, _option: object = None) -> None:
        import shtab  # a tenth of the time in which any command starts

        print(shtab.complete(parser, shell=str(shell), preamble=_PREAMBLE))
        parser.exit()


class _Manual(argparse.Action):
    """Prints the manual page, and ends."""

    def __call__(self, parser: argparse.ArgumentParser, _space: object, _words: object, _option: object = None) -> None:
        from fleet.terminal import manual

        print(manual.page(parser))
        parser.exit()


def parser(prog: str, description: str, example: str) -> Parser:
    """A top parser with --version, --debug, --completion and --manual."""
    made = Parser(prog=prog, description=description, example=example)
    made.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    made.add_argument("--debug", action="store_true", help="show tracebacks and debug lines")
    words = 'print tab completion for bash, zsh or tcsh: eval "$(%(prog)s --completion bash)"'
    made.add_argument("--completion", choices=("bash", "zsh", "tcsh"), action=_Completion, help=words)
    made.add_argument("--manual", nargs=0, action=_Manual, help="print the manual page: %(prog)s --manual | man -l -")
    return made


def worker(made: Parser, help: str, **usual: Any) -> None:
    """The option --worker; completion knows the workers that there are."""
    completed(made.add_argument("--worker", metavar="NAME", help=help, **usual), WORKERS)


def completed(option: Any, what: str) -> None:
    """Completion of OPTION knows WHAT (WORKERS, KEYS, SERVERS)."""
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
    """Add one verb: its parser, its example, and the function that RUNs it.

    ROOT: it is for root alone. ANSWERS: its answer can be had as JSON (answer()). START_SECONDS are supervisord's
    `startsecs` where it runs this verb.
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
        if unknown:  # the verb's own help says which words it knows
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
        # The reader of our answer went away (`| head`): not an error, but nothing more can be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = int(ExitCode.DONE)
    except Exception as error:  # the last place that can still say what happened
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        code = _report(made.prog, error, ExitCode.TRY_LATER if full else ExitCode.INTERNAL, debug)
    sys.exit(code)


def _report(prog: str, error: Exception, code: ExitCode, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    first, *rest = describe(error)
    kind = "" if isinstance(error, FleetError) else f"{type(error).__name__}: "
    # A message may begin with the program's name already, as in `fleet up needs root`.
    name = "" if not kind and first.startswith((f"{prog} ", f"{prog}: ")) else f"{prog}: "
    say("\n".join([f"{name}{kind}{first}", *(f"  {line}" for line in rest)]))
    programs.tell_error(error)
    return int(code)


def require_root(what: str) -> None:
    """Raise NotAllowed unless this process is root; WHAT is the full command to repeat."""
    if os.geteuid() != 0:
        raise NotAllowed(f"{what} needs root", hint=f"sudo {what}")


Rows = Sequence[Sequence[str]]


def answer(
    arguments: argparse.Namespace,
    value: JsonValue,
    *lines: str,
    table: tuple[str, Sequence[str], Rows] | None = None,
) -> None:
    """VALUE on standard output where --json asks for it, else TABLE (title, columns, rows) and LINES."""
    if arguments.json:
        print_json(value)
        return
    if table is not None:
        print_table(*table)
    show(*lines)


def show(*lines: str) -> None:
    """LINES on standard output."""
    for text in lines:
        print(visible.lines(text))


def copy(file: BinaryIO) -> None:
    """All of FILE on standard output, which is no terminal: what is in it is no text."""
    sys.stdout.flush()
    shutil.copyfileobj(file, sys.stdout.buffer)
    sys.stdout.buffer.flush()


def print_json(value: JsonValue) -> None:
    """VALUE as indented JSON on standard output, Korean left readable."""
    print(visible.json(json.dumps(value, indent=2, ensure_ascii=False)))


def print_table(title: str, columns: Sequence[str], rows: Rows) -> None:
    """A table on standard output; plain text when it is not a terminal.

    Where the terminal is too narrow for it each row is a block of lines `column: cell`, for a cut or folded column
    cannot be read.
    """
    if title:
        show(title)  # above the table and not in it: it may be wider
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
    """A function that shows another made_table() in place of the last, on standard error.

    None where that is no terminal.
    """
    terminal = _console(visible.unguarded_stderr())
    if not terminal.is_terminal:
        yield None
        return
    from rich.live import Live

    with Live(console=terminal, refresh_per_second=4, transient=True) as live:
        visible.guard()  # what others write meanwhile goes to rich, which would obey it
        yield live.update


def _console(file: TextIO, width: int | None = None) -> Console:
    """Without colours: there is no escape sequence in what it prints."""
    from rich.console import Console

    return Console(file=file, width=width, color_system=None, markup=False, emoji=False, highlight=False)


def made_table(title: str, columns: Sequence[str], rows: Rows) -> Table:
    """A table in which everything stands as it is: a worker may have written it, for rich or the terminal to obey."""
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
    """One line for people, on standard error; never fails because its reader is gone."""
    with contextlib.suppress(BrokenPipeError, ValueError):
        print(visible.lines(text), file=sys.stderr, flush=True)
