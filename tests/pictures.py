"""Makes the pictures of the hub's pages in docs/pictures, of a fleet that is made up. As root:

sudo $(bin/setup --dev --print-environment)/bin/python -m tests.pictures
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from urllib.parse import urlencode

from PIL import Image, ImageDraw
from playwright.sync_api import Browser, sync_playwright

from tests.hub_pages import ONE, PORT, TOKEN, Scene, Seen, ask, shown, status
from tests.waiting import until

FOLDER = Path(__file__).resolve().parents[1] / "docs/pictures"
WIDTH, HEIGHT, TALL = 1100, 700, 1200
EXITS = ("kr-1.vpn.example", "jp-1.vpn.example", "de-1.vpn.example")
PAGES = {
    "fleet": "/?lang=en",
    "watch": "/watches/3?lang=en",
    "run": "/results/3.22?lang=en",
    "around": "/around/3.22?lang=en",
    "results": "/results?lang=en",
    "jobs": "/jobs?lang=en",
    "worker": f"/workers/{ONE.name}?lang=en",
    "site": "/sites/shop.example?lang=en",
    "exits": "/exits?lang=en",
    "keys": "/keys?lang=en",
    "acts": "/acts?lang=en",
    "fleet-ko": "/?lang=ko",
}
DARK = ("fleet-ko", "exits", "acts")
ALL = ("watch", "run")


def shop(price: float) -> bytes:
    """A page of a shop."""
    image = Image.new("RGB", (640, 420), "#f4f1ea")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 640, 54), fill="#27445c")
    draw.text((20, 14), "shop.example", fill="white", font_size=22)
    draw.rectangle((30, 90, 270, 380), fill="#c9d6df")
    draw.ellipse((80, 150, 220, 320), fill="#7a8f9e")
    draw.text((310, 110), "Kettle, 1.7 l", fill="#222222", font_size=28)
    draw.text((310, 170), f"{price:,.0f} KRW", fill="#a02020", font_size=40)
    draw.rectangle((310, 250, 520, 300), fill="#27445c")
    draw.text((350, 262), "Put into basket", fill="white", font_size=18)
    made = io.BytesIO()
    image.save(made, "PNG")
    return made.getvalue()


def seen() -> list[Seen]:
    """Prices that differ by exit, and a shop that was asked too often once."""
    found: list[Seen] = []
    for number in range(24):
        server = EXITS[number % 3]
        price = 39_000 + 500 * (number % 3) - 700 * (number > 14)
        found.append((server, "limited", None) if number == 9 else (server, "good", float(price)))
    return found


def take(browser: Browser, name: str, place: str) -> None:
    """The picture NAME of the page at PLACE."""
    context = browser.new_context(viewport={"width": WIDTH, "height": TALL if name in ALL else HEIGHT})
    page = context.new_page()
    page.emulate_media(color_scheme="dark" if name in DARK else "light")
    page.goto(f"http://127.0.0.1:{PORT}{place}", wait_until="load")
    for picture in page.locator("main img").all():
        picture.scroll_into_view_if_needed()
    page.evaluate("scrollTo(0, 0)")
    content = page.screenshot()
    context.close()
    Image.open(io.BytesIO(content)).convert("RGB").save(FOLDER / f"{name}.webp", quality=55, method=6)


def fill(scene: Scene) -> None:
    """What the pages show."""
    scene.watch("kettle", seen(), [shop(39_000), shop(39_500), shop(38_300)])
    scene.watch("desk lamp", [(EXITS[0], "good", 21_000.0)] * 6)
    for number in range(12):
        scene.run(f"query {number}", "absent" if number == 5 else "good", exit=EXITS[number % 3])
    for token in (TOKEN, "x" * 20):
        for place, what in (("sites/shop.example", "pause"), ("sites/shop.example", "resume"), ("watches/2", "retry")):
            ask(f"/{place}", "POST", urlencode({"what": what, "token": token}))
    until("the hub has looked", lambda: "kettle" in ask("/api/fleet")[2], 60)


def main() -> None:
    """All of them."""
    FOLDER.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as root,
        shown(Path(root), "wireless keyboard") as scene,
        sync_playwright() as playwright,
    ):
        assert status("/") == 200
        fill(scene)
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for name, place in PAGES.items():
            take(browser, name, place)
        browser.close()


if __name__ == "__main__":
    main()
