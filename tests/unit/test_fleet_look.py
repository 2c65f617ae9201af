"""Links that let a person view the page, as values."""

from __future__ import annotations

import pytest

from fleet import look

TOKEN = "a-token-of-twenty-signs"
NOW = 1_800_000_000.0


def test_a_link_opens_what_comes_after_it() -> None:
    """It is valid until its time, with the token that made it; the path after it is unchanged."""
    made = look.link(TOKEN, int(NOW) + 60)
    for path in ("/", "/results/1.1", "/sites/a%2Fb", "/look/x"):
        assert look.looked(f"{made}{path}", TOKEN, NOW) == (made, path)
    assert TOKEN not in made


@pytest.mark.parametrize("change", ["later", "other", "shorter", "longer", "upper", "bare", "none", "twice"])
def test_anything_else_opens_nothing(change: str) -> None:
    """Not a link with another time or signature, or without a path after it."""
    made = look.link(TOKEN, int(NOW) + 60)
    changed = {
        "later": made.replace(str(int(NOW) + 60), str(int(NOW) + 61)),
        "other": made[:-1] + ("0" if made[-1] != "0" else "1"),
        "shorter": made[:-1],
        "longer": f"{made}0",
        "upper": made[:-32] + made[-32:].upper() + "G",
        "bare": "/look",
        "none": "",
        "twice": f"/look{made}",
    }
    assert look.looked(f"{changed[change]}/", TOKEN, NOW) is None
    assert look.looked(made, TOKEN, NOW) is None


def test_it_ends_by_itself_and_with_its_token() -> None:
    """It is invalid one second after its time, or after the token changes; a short token makes no link at all."""
    made = look.link(TOKEN, int(NOW))
    assert look.looked(f"{made}/", TOKEN, NOW) and not look.looked(f"{made}/", TOKEN, NOW + 1)
    assert not look.looked(f"{made}/", f"{TOKEN}x", NOW) and not look.looked(f"{made}/", "", NOW)
    assert look.link("short", int(NOW)) == ""
