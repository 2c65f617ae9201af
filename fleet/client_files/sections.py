"""Parses a client file: sections, their entries, comments, and what the file says about the exit.

Like wg(8) it ignores blanks and the case of names and sections, `#` begins a comment, an entry without a value is
ignored, and of two the last counts. A mistake is reported with its line's number but not its text, which may be part
of a key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

_EXIT = re.compile(r"^\W*exit[ _-]?add?ress\s*([=:]?)\s*(.*)$", re.IGNORECASE)
_REPEATED = frozenset({"address", "dns", "allowedips"})
"""Entries that may stand more than once in a section; they are joined."""


@dataclass(slots=True)
class Section:
    """`[Title]` and its entries, by lower-case name."""

    title: str
    values: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    """The names as the file spells them."""
    comments: list[str] = field(default_factory=list)

    def add(self, name: str, value: str) -> None:
        """Add one line of the section."""
        key = "".join(name.split()).lower()
        if not value:
            return
        before = self.values.get(key)
        self.values[key] = f"{before},{value}" if before and key in _REPEATED else value
        self.names[key] = name


@dataclass(slots=True)
class Document:
    """A parsed file."""

    sections: list[Section] = field(default_factory=list)
    exits: list[str] = field(default_factory=list)
    """The text after each `ExitAddress =`, in a comment or not."""
    mistakes: list[str] = field(default_factory=list)

    def titled(self, title: str) -> list[Section]:
        """The sections with that TITLE (lower case)."""
        return [one for one in self.sections if one.title.lower() == title]


def taken_apart(text: str) -> Document:
    """Parse TEXT, which has passed fleet.client_files.text."""
    found, odd = Document(), list[int]()
    for number, raw in enumerate(text.splitlines(), 1):
        line, comment = _split(raw.strip())
        if comment:
            _comment(found, comment)
        if line.startswith("["):
            title, _, rest = line[1:].partition("]")
            found.sections.append(Section(title=title.strip()))
            if rest.strip() and not rest.lstrip().startswith((";", "//")):
                found.mistakes.append(f"line {number}: more than the [section]: each entry needs a line of its own")
        elif line and (said := _exit(line)) is not None:
            found.exits.append(said)
        elif line:
            name, equals, value = line.partition("=")
            if equals and found.sections:
                found.sections[-1].add(name.strip(), value.strip().strip("\"'").strip())
            else:
                odd.append(number)
    if odd:
        more = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
        found.mistakes.append(f"line {odd[0]}{more}: no `Name = value` of a section")
    return found


def _split(line: str) -> tuple[str, str]:
    if line.startswith((";", "//")):
        return "", line
    words, _, comment = line.partition("#")
    return words.strip(), comment.strip()


def _comment(found: Document, comment: str) -> None:
    if (said := _exit(comment)) is not None:
        found.exits.append(said)
    elif found.sections:
        found.sections[-1].comments.append(comment)


def _exit(words: str) -> str | None:
    """What WORDS name as the exit; None when they do not set it."""
    match = _EXIT.match(words)
    if match is None or not (match[1] or address_in(match[2].split(" ")[0])):
        return None
    return match[2]


def address_in(word: str) -> IPv4Address | IPv6Address | None:
    """WORD as an address; None when it is something else, for example a name."""
    try:
        return ip_address(word)
    except ValueError:
        return None
