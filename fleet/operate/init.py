"""`fleet init`: writes fleet.toml from flags, from answers at the terminal, and from the `DNS =` of WireGuard files."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence

from fleet.client_files import intake, sections
from fleet.errors import ConfigurationError, UsageError
from fleet.machine.files import write_durably
from fleet.model import Paths, WorkersSettings
from fleet.operate import configuration
from fleet.programs import undetected_is_installed
from fleet.terminal import console

SERVICES = ("https://api.ipify.org/", "https://icanhazip.com/")
"""Offered when no exit echo is named: public, and known to answer with nothing but the caller's address."""
_MOST_RESOLVERS = 3


def init(arguments: argparse.Namespace) -> None:
    """`fleet init`."""
    path = Paths.from_environment().config
    if path.exists():
        raise ConfigurationError(f"{path} is there already", hint=f"edit it, or move it away: mv {path} {path}.old")
    text = toml(arguments)
    configuration.refuse_example(configuration.parse(text, "fleet init"), "fleet init")
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_durably(path, text.encode(), 0o644)
    console.say(f"written: {path}\nnext: sudo netctl keys import FILE.conf...; then: sudo fleet up")


def toml(arguments: argparse.Namespace) -> str:
    """The text of fleet.toml by ARGUMENTS and answers; raises UsageError."""
    url = arguments.url or _answer("--url", "Which page do you want to watch? (https://...)")
    if not url.startswith(("https://", "http://")):
        raise UsageError(f"fleet init: --url: {url!r} is no http or https address", hint="https://shop.example/")
    files = [_interface(name) for name in arguments.files]
    resolvers = arguments.resolver or _copied(files) or _several("--resolver", "Which resolvers?")
    services = arguments.exit_echo or _several(
        "--exit-echo", "Which services say from which address they are asked? They must be https.", SERVICES
    )
    usual, count = WorkersSettings().count, arguments.workers
    if count is None:
        # One key may be in many files, one for each of a provider's servers, and each worker needs its own key.
        count = min(usual, len({key for one in files if (key := one.get("privatekey"))}) or usual)
    console.say(f"workers.count: {count}")
    return "\n".join(
        [
            "# Made by `fleet init`. docs/fleet.example.toml explains every key there is.",
            f"[workers]\ncount = {count}\n",
            f"# The only resolvers that a worker may ask, through its tunnel.\n[dns]\nresolvers = {_list(resolvers)}\n",
            f"# They say which address the world sees.\n[egress]\nurls = {_list(services)}\n",
            *([] if undetected_is_installed() else ['[browser]\ndriver = "selenium"\n']),
            "# Rest between two loops: be polite to the site that you watch.\n[loop]\npause_seconds = 30\n",
            '# What a loop does: "watch", "search" or "visit" (docs/watch.md), or one of your own (docs/own-task.md).',
            f'[task]\nrun = "visit"\n\n[task.options]\nurls = {_list([url])}\n',
        ]
    )


def _list(words: Sequence[str]) -> str:
    return json.dumps([*words], ensure_ascii=False)


def _copied(files: Iterable[Mapping[str, str]]) -> list[str]:
    """The resolvers in client files: only the IPv4 ones if there are any, because not every key carries IPv6."""
    words = [word for one in files for word in one.get("dns", "").replace(",", " ").split()]
    # Search domains may be listed there too.
    found = list(dict.fromkeys(address for word in words if (address := sections.address_in(word)) is not None))
    chosen = [one for one in found if one.version == 4] or found
    if found:
        console.say(f"resolvers, from the files: {', '.join(map(str, chosen[:_MOST_RESOLVERS]))}")
    if left := chosen[_MOST_RESOLVERS:]:
        console.say(f"not taken, for there are {_MOST_RESOLVERS} at most: {', '.join(map(str, left))}")
    return [str(one) for one in chosen[:_MOST_RESOLVERS]]


def _interface(name: str) -> Mapping[str, str]:
    """The entries of [Interface] in the client file NAME, by lower-case name."""
    try:
        found = sections.taken_apart(intake.read(name)).titled("interface")
    except OSError as error:
        raise ConfigurationError(f"{name} cannot be read: {error.strerror}", hint=f"ls -l {name}") from None
    except ValueError as error:
        raise ConfigurationError(f"{name} {error}", hint="name your provider's .conf files") from None
    return found[-1].values if found else {}


def _several(flag: str, question: str, usual: Sequence[str] = ()) -> list[str]:
    return _answer(flag, question, " ".join(usual)).replace(",", " ").split()


def _answer(flag: str, question: str, usual: str = "") -> str:
    """The answer to QUESTION, or USUAL; raises UsageError naming FLAG when there is no terminal or no answer."""
    if not sys.stdin.isatty():
        if usual:
            console.say(f"{flag} was not given; taken: {usual}")
            return usual
        raise UsageError(f"fleet init: {flag} is missing, and there is no terminal to ask at", hint="fleet init --help")
    console.say(f"{question}{f' Enter takes: {usual}' if usual else ''}")
    answer = sys.stdin.readline().strip() or usual
    if not answer:
        raise UsageError(f"fleet init: no answer, and {flag} was not given", hint="fleet init --help")
    return answer
