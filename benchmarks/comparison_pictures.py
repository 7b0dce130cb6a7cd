"""The pictures of `docs/comparison.md`, taken anew from a report that `smidgen compare` wrote.

    python benchmarks/comparison_pictures.py report.html [--into docs] [--look]

Needs Chromium, which Debian has as the package chromium. Written are comparison.png (the beginning, to the end of the
figures), comparison-answers.png (what is traded, and the answers) and comparison-phone.png; with --look also the whole
report on a phone, on a dark screen and in print, to look through.
"""

import argparse
import base64
import runpy
import sys
import tempfile
from pathlib import Path
from typing import Any

Browser = runpy.run_path(str(Path(__file__).parents[1] / "tests" / "serving" / "web" / "conftest.py"))["Browser"]

DESKTOP, PHONE = 900, 390
"""Widths of the pictures, in pixels."""

MOST = 1500
"""Height at which a picture for the page ends, in pixels."""

LONGEST = 12_000
"""The same for a whole report."""


def edges(browser: Any, selector: str) -> tuple[int, int]:
    """Return where an element begins and ends, in pixels from the top of the page."""
    top, bottom = browser.run(
        f"(r => [r.top + scrollY, r.bottom + scrollY])(document.querySelector({selector!r}).getBoundingClientRect())"
    )
    return int(top), int(bottom) + 1


def take(browser: Any, path: Path, width: int, top: int, bottom: int) -> None:
    """Write a strip of the page, as wide as the window, as PNG."""
    clip = {"x": 0, "y": top, "width": width, "height": bottom - top, "scale": 1}
    shot = browser.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
    path.write_bytes(base64.b64decode(shot["data"]))
    print(f"{path}: {width} x {bottom - top}")


def pictures(browser: Any, into: Path) -> None:
    """Take what the page shows."""
    browser.size(DESKTOP, 1000)
    take(browser, into / "comparison.png", DESKTOP, 0, min(MOST, edges(browser, "#figures")[1]))
    top, bottom = edges(browser, "#trade")[0], edges(browser, "#answers")[1]
    take(browser, into / "comparison-answers.png", DESKTOP, top, min(top + MOST, bottom))
    browser.size(PHONE, 844, phone=True)
    take(browser, into / "comparison-phone.png", PHONE, 0, min(MOST, edges(browser, "body")[1]))


def look(browser: Any, into: Path) -> None:
    """Take the whole report as a phone, a dark screen and a printer show it."""
    looks = {"phone-whole": (PHONE, "light", ""), "dark": (DESKTOP, "dark", ""), "print": (DESKTOP, "light", "print")}
    for name, (width, scheme, media) in looks.items():
        browser.size(width, 844, phone=width == PHONE)
        wanted = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.call("Emulation.setEmulatedMedia", media=media, features=wanted)
        if (wide := browser.run("document.documentElement.scrollWidth")) > width:
            print(f"{name}: the page is {wide} pixels wide, more than the window's {width}")
        take(browser, into / f"comparison-{name}.png", width, 0, min(LONGEST, edges(browser, "body")[1]))


def main(words: list[str] | None = None) -> int:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description="Take the pictures of docs/comparison.md from a report.")
    parser.add_argument("report", type=Path)
    parser.add_argument("--into", type=Path, default=Path("docs"), help="folder that they are written to")
    parser.add_argument("--look", action="store_true", help="take dark, print and phone pictures of the whole too")
    asked = parser.parse_args(words)
    if not asked.report.is_file():
        print(f"There is no report {asked.report}: smidgen compare … --output {asked.report}", file=sys.stderr)
        return 2
    asked.into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(Path(profile))
        try:
            browser.size(DESKTOP, 1000)
            browser.call("Page.navigate", url=asked.report.resolve().as_uri())
            browser.wait("document.readyState === 'complete' && document.querySelector('#figures') !== null")
            pictures(browser, asked.into)
            if asked.look:
                look(browser, asked.into)
        finally:
            browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
