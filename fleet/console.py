"""What every command line shares: the parser's habits, errors to exit codes, tables beside JSON.

Standard output is the answer, standard error everything else.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import shtab
from pydantic import JsonValue
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fleet import VERSION, log, processes, programs
from fleet.errors import ExitCode, FleetError, NotAllowed, UsageError, describe


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


Command = Callable[[argparse.Namespace], "int | None"]
"""Runs a verb; gives the exit code, None for 0."""


def parser(prog: str, description: str, example: str) -> Parser:
    """A top parser with --version, --debug and --completion."""
    made = Parser(prog=prog, description=description, example=example)
    made.add_argument("--version", action="version", version=f"%(prog)s {VERSION}")
    made.add_argument("--debug", action="store_true", help="show tracebacks and debug lines")
    shtab.add_argument_to(
        made, "--completion", help='print tab completion for bash, zsh or tcsh: eval "$(%(prog)s --completion bash)"'
    )
    return made


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
        code = _report(made.prog, error, ExitCode.INTERNAL, debug)
    sys.exit(code)


def _report(prog: str, error: Exception, code: ExitCode, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    first, *rest = describe(error)
    kind = "" if isinstance(error, FleetError) else f"{type(error).__name__}: "
    # A message may begin with the program's name already, as in `fleet up needs root`.
    name = "" if not kind and first.startswith((f"{prog} ", f"{prog}: ")) else f"{prog}: "
    print(f"{name}{kind}{first}", *(f"  {line}" for line in rest), sep="\n", file=sys.stderr)
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
    if lines:
        print(*lines, sep="\n")


def print_json(value: JsonValue) -> None:
    """VALUE as indented JSON on standard output, Korean left readable."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(title: str, columns: Sequence[str], rows: Rows) -> None:
    """A table on standard output; plain text when it is not a terminal."""
    if title:
        print(title)  # above the table and not in it: it may be wider
    table = Table(*columns)
    for row in rows:
        table.add_row(*map(cell, row))
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def cell(words: str) -> Text:
    """WORDS in a table as they are: a worker may have written them, for rich or for the terminal to obey."""
    return Text("".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in words))


def say(text: str) -> None:
    """One line for people, on standard error; never fails because its reader is gone."""
    with contextlib.suppress(BrokenPipeError, ValueError):
        print(text, file=sys.stderr, flush=True)
