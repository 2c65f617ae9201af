"""`fleet init`: writes fleet.toml from flags, from what a person answers, and from the `DNS =` of WireGuard files."""

from __future__ import annotations

import argparse
import json
import re
import stat
import sys
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from fleet import console
from fleet.errors import ConfigurationError, UsageError
from fleet.files import write_durably
from fleet.model import Paths, WorkersSettings
from fleet.operate import configuration
from fleet.programs import undetected_is_installed

SERVICES = ("https://api.ipify.org/", "https://icanhazip.com/")
"""Offered to whoever names no exit echo: public, and known to answer with the caller's address alone."""
_FILE_BYTES = 65_536
_DNS = re.compile(r"^\s*DNS\s*=([^#\r\n]*)", re.IGNORECASE | re.MULTILINE)
_KEY = re.compile(r"^\s*PrivateKey\s*=\s*(\S+)", re.IGNORECASE | re.MULTILINE)
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
    """The file that ARGUMENTS and answers make."""
    url = arguments.url or _answer("--url", "Which page do you want to watch? (https://...)")
    if not url.startswith(("https://", "http://")):
        raise UsageError(f"fleet init: --url: {url!r} is no http or https address", hint="https://shop.example/")
    texts = [_text(Path(name)) for name in arguments.files]
    resolvers = arguments.resolver or _copied(texts) or _several("--resolver", "Which resolvers?")
    services = arguments.exit_echo or _several(
        "--exit-echo", "Which services say from which address they are asked? They must be https.", SERVICES
    )
    usual, count = WorkersSettings().count, arguments.workers
    if count is None:
        # One key may be in many files, one for each of a provider's servers; and each worker holds a key of its own.
        count = min(usual, len({key for text in texts for key in _KEY.findall(text)}) or usual)
    console.say(f"workers.count: {count}")
    return "\n".join(
        [
            "# Made by `fleet init`. docs/fleet.example.toml explains every key there is.",
            f"[workers]\ncount = {count}\n",
            f"# The only resolvers that a worker may ask, through its tunnel.\n[dns]\nresolvers = {_list(resolvers)}\n",
            f"# They say which address the world sees.\n[egress]\nurls = {_list(services)}\n",
            *([] if undetected_is_installed() else ['[browser]\ndriver = "selenium"\n']),
            "# Rest between two loops: be polite to the site that you watch.\n[loop]\npause_seconds = 30\n",
            '# What a loop does. "search", "visit", or one of your own: docs/own-task.md.',
            f'[task]\nrun = "visit"\n\n[task.options]\nurls = {_list([url])}\n',
        ]
    )


def _list(words: Sequence[str]) -> str:
    return json.dumps([*words], ensure_ascii=False)


def _copied(texts: Iterable[str]) -> list[str]:
    """The resolvers that client files name: of IPv4 alone where there are any, for not every key carries IPv6."""
    words = [word for text in texts for line in _DNS.findall(text) for word in line.replace(",", " ").split()]
    # Names of search domains may stand there too.
    found = list(dict.fromkeys(address for word in words if (address := _address(word)) is not None))
    chosen = [one for one in found if one.version == 4] or found
    if found:
        console.say(f"resolvers, from the files: {', '.join(map(str, chosen[:_MOST_RESOLVERS]))}")
    if left := chosen[_MOST_RESOLVERS:]:
        console.say(f"not taken, for there are {_MOST_RESOLVERS} at most: {', '.join(map(str, left))}")
    return [str(one) for one in chosen[:_MOST_RESOLVERS]]


def _text(path: Path) -> str:
    """A client file, as people have them."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigurationError(f"{path} is no file", hint="name your provider's .conf files")
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}", hint=f"ls -l {path}") from None
    return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", errors="replace")


def _address(word: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(word)
    except ValueError:
        return None


def _several(flag: str, question: str, usual: Sequence[str] = ()) -> list[str]:
    return _answer(flag, question, " ".join(usual)).replace(",", " ").split()


def _answer(flag: str, question: str, usual: str = "") -> str:
    """What a person answers to QUESTION, or USUAL; raises UsageError naming FLAG where nobody can be asked."""
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
