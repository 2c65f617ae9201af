"""Makes a program's manual page (man(7)) from its parser: the --help of each verb, one after the other."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from fleet import VERSION


def page(made: argparse.ArgumentParser) -> str:
    """The manual page of the parser MADE."""
    name = made.prog
    head = [f'.TH {name.upper()} 8 "" "fleet {VERSION}"', ".SH NAME", f"{name} \\- {_text(made.description or name)}"]
    return "\n".join([*head, ".SH SYNOPSIS", *_verbatim(made.format_help()), ".SH COMMANDS", *_verbs(made), ""])


def _verbs(made: argparse.ArgumentParser) -> Iterator[str]:
    for action in made._actions:  # argparse has no public access to subparsers
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                yield f".SS {_text(verb.prog)}"
                yield from _verbatim(verb.format_help())
                yield from _verbs(verb)


def _verbatim(text: str) -> list[str]:
    return [".nf", *map(_text, text.splitlines()), ".fi"]


def _text(line: str) -> str:
    """LINE quoted for roff: no requests or escapes, and each dash a minus that can be copied."""
    quoted = line.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{quoted}" if quoted[:1] in (".", "'") else quoted
