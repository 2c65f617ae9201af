"""Makes text safe for a terminal: all other characters are shown by their numbers, so that nothing obeys them.

Data comes from pages, workers and other untrusted sources. A terminal obeys control characters (C0, DEL, C1);
bidirectional marks and zero-width characters can make a line look like another one. Korean, emoji and combining marks
are kept.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterable
from typing import Any, TextIO

_EMOJI = "\u203c-\u3299\ufe0f\U0001f000-\U0001faff"
_KEPT = (
    rf"(?<=[{_EMOJI}])\u200d(?=[{_EMOJI}])"  # joins two emoji into one
    "|\U0001f3f4[\U000e0030-\U000e007a]{1,6}\U000e007f"  # a flag like that of Scotland
)
_UNSEEN = (  # the categories Cc, Cf, Cs, Zl and Zp of Unicode; a test compares
    "\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890-\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e00ff"
)
_ONE = re.compile(f"{_KEPT}|([{_UNSEEN}])")
_LINES = re.compile(f"{_KEPT}|(?!\n)([{_UNSEEN}])")
_ON_A_STREAM = re.compile(f"{_KEPT}|(?![\n\t])([{_UNSEEN}])")
_IN_JSON = re.compile(f"(?![\x00-\x1f])[{_UNSEEN}]")


def line(text: str) -> str:
    """TEXT on one line, with unsafe characters visible: `\\x1b`, `\\u202e`."""
    return _ONE.sub(_number, text)


def lines(text: str) -> str:
    """The same, but line breaks are kept."""
    return _LINES.sub(_number, text)


def json(text: str) -> str:
    """JSON text with these characters as JSON's own escapes; its meaning is unchanged."""
    return _IN_JSON.sub(lambda found: "".join(rf"\u{unit:04x}" for unit in _utf16(found[0])), text)


def _number(found: re.Match[str]) -> str:
    if found[1] is None:
        return found[0]
    code = ord(found[1])
    return rf"\x{code:02x}" if code < 0x100 else rf"\u{code:04x}" if code < 0x10000 else rf"\U{code:08x}"


def _utf16(letter: str) -> list[int]:
    units = letter.encode("utf-16-be", errors="surrogatepass")
    return [int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2)]


class Stream:
    """Wraps STREAM so that unsafe characters are shown by number, whatever code writes to it; tabs are kept."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(_ON_A_STREAM.sub(_number, text))

    def writelines(self, many: Iterable[str]) -> None:
        self.write("".join(many))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def guard() -> None:
    """Wrap this program's standard output and standard error in such streams."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, Stream):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
            setattr(sys, name, Stream(stream))


def unguarded_stderr() -> TextIO:
    """Standard error without the wrapper, for a library that moves the cursor; all its text has passed line()."""
    found: TextIO = sys.stderr._stream if isinstance(sys.stderr, Stream) else sys.stderr
    return found
