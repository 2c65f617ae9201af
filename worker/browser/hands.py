"""A person's input to a page: click, type, press keys, choose, scroll; Chrome gets it as real input events.

Only visible elements are clicked; if something covers one, the error names it.
"""

from __future__ import annotations

from typing import Any

from fleet.errors import ElementMissing
from worker.browser.tab import Tab

KEYS = {
    "Enter": ("Enter", 13, "\r"),
    "Tab": ("Tab", 9, ""),
    "Escape": ("Escape", 27, ""),
    "Backspace": ("Backspace", 8, ""),
    "Delete": ("Delete", 46, ""),
    "ArrowDown": ("ArrowDown", 40, ""),
    "ArrowUp": ("ArrowUp", 38, ""),
    "PageDown": ("PageDown", 34, ""),
    "End": ("End", 35, ""),
}
"""By name: code, virtual key code, text."""


def click(tab: Tab, selector: str, *, seconds: float = 0) -> None:
    """Click the first visible match once nothing covers it; raises ElementMissing saying why that did not happen."""
    last: dict[str, Any] = {}

    def free() -> bool:
        last.update(tab.ask("point", selector))
        return bool(last["visible"]) and not last["covered"]

    if not tab.until(free, seconds=seconds):
        raise _unusable(tab, selector, last)
    tab.command("Page.bringToFront")
    if tab.settings.mobile:
        tab.post("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": last["x"], "y": last["y"]}]})
        tab.acknowledged("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        return
    place = {"x": last["x"], "y": last["y"], "button": "left", "clickCount": 1}
    tab.post("Input.dispatchMouseEvent", {**place, "type": "mouseMoved", "button": "none"})
    tab.post("Input.dispatchMouseEvent", {**place, "type": "mousePressed"})
    tab.acknowledged("Input.dispatchMouseEvent", {**place, "type": "mouseReleased"})


def fill(tab: Tab, selector: str, text: str, *, submit: bool = False, seconds: float = 0) -> None:
    """Type TEXT into the first visible match, replacing its content, then Enter if SUBMIT."""
    last: dict[str, Any] = {}

    def focused() -> bool:
        last.update({"focused": False}, **tab.ask("focus", selector))
        return bool(last["focused"])

    if not tab.until(focused, seconds=seconds):
        raise _unusable(tab, selector, last)
    if last["covered"]:
        tab.documents.note(f"{selector} was filled while {last['covered']} lay over it")
    tab.command("Page.bringToFront")
    if last["text"]:
        press(tab, "Delete")
    for character in text:
        _type(tab, character)
    if submit:
        press(tab, "Enter")


def press(tab: Tab, key: str) -> None:
    """Press a key of KEYS in the focused element."""
    code, number, text = KEYS[key]
    made = {"key": key, "code": code, "windowsVirtualKeyCode": number, "nativeVirtualKeyCode": number}
    down = {**made, "type": "keyDown" if text else "rawKeyDown", **({"text": text} if text else {})}
    tab.post("Input.dispatchKeyEvent", down)
    tab.acknowledged("Input.dispatchKeyEvent", {**made, "type": "keyUp"})


def choose(tab: Tab, selector: str, value: str) -> None:
    """Choose the option with that VALUE or text in the first visible match."""
    found = tab.ask("choose", selector, value)
    if not found["visible"]:
        raise _unusable(tab, selector, found)
    if "missing" in found:
        raise ElementMissing(f"{selector!r} has no option {value!r}; it has {', '.join(found['missing'])}"[:500])


def scroll(tab: Tab, selector: str | None = None, pixels: int | None = None) -> bool:
    """Scroll the container of SELECTOR, or the page, by PIXELS or most of its height; returns whether it moved."""
    return bool(tab.ask("scroll", selector, pixels)["moved"])


def _type(tab: Tab, character: str) -> None:
    if ord(character) > 0xFFFF or not character.isprintable():
        tab.post("Input.insertText", {"text": character})  # no key types it
        return
    key = {"key": character, "text": character, "unmodifiedText": character}
    tab.post("Input.dispatchKeyEvent", {"type": "keyDown", **key})
    tab.acknowledged("Input.dispatchKeyEvent", {"type": "keyUp", "key": character})


def _unusable(tab: Tab, selector: str, last: dict[str, Any]) -> ElementMissing:
    url = tab.documents.current.url
    if not last.get("present"):
        why = f"{url} has no {selector!r}"
    elif not last.get("visible"):
        why = f"{url}: {selector!r} is there, and not visible"
    elif last.get("covered"):
        why = f"{url}: {selector!r} is covered by {last['covered']}"
    else:
        why = f"{url}: {selector!r} takes no text"
    return ElementMissing(why, hint="look at the screenshot; a step before it may open it or close what is over it")
