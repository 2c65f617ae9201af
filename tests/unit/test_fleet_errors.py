"""The tree of errors: its drawing is right, and it has all error classes."""

from __future__ import annotations

import re

from fleet import errors
from fleet.errors import TREE, FleetError, PageFailed, from_wire

LINE = re.compile(r"^ {4}(?P<indent>[│├└─ ]*)(?P<name>[A-Z]\w+)( +(?P<code>\d+))?(  |$)", re.MULTILINE)


def drawn() -> dict[str, tuple[str | None, int]]:
    """The drawing in the module's docstring: by name, the parent's name and the exit code that applies."""
    above: list[tuple[str, int]] = []
    found: dict[str, tuple[str | None, int]] = {}
    for match in LINE.finditer(errors.__doc__ or ""):
        depth = len(match["indent"]) // 4
        del above[depth:]
        code = int(match["code"]) if match["code"] else above[-1][1]
        found[match["name"]] = (above[-1][0] if above else None, code)
        above.append((match["name"], code))
    return found


def test_the_drawing_is_the_tree() -> None:
    """Every class is drawn below its parent and with its exit code, and nothing else is drawn."""
    parents = {name: kind.__bases__[0].__name__ for name, kind in TREE.items() if kind is not FleetError}
    assert drawn() == {name: (parents.get(name), kind.exit_code) for name, kind in TREE.items()}


def test_an_error_of_parts_comes_back_whole() -> None:
    """An error that builds its message from parts arrives with that message and its parts."""
    sent = PageFailed("https://a.example/", "ERR_FAILED")
    back = from_wire("PageFailed", sent.parameters())
    assert isinstance(back, PageFailed)
    assert (back.message, back.code) == ("https://a.example/: ERR_FAILED", "ERR_FAILED")


def test_a_class_of_another_file_is_no_name_of_the_tree() -> None:
    """Classes that a program defines or imports elsewhere do not count: their names stay unknown."""

    class Foreign(FleetError):
        """not in the tree"""

    assert type(from_wire("Foreign", {"message": "no"})) is FleetError
