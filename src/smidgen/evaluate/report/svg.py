"""Draws with matplotlib and turns the drawing into SVG that follows the page's colours and fonts.

Colours are drawn as stand-ins and become CSS variables, so that one drawing serves light, dark and paper. Nothing
depends on time or chance: the same data give the same bytes.
"""

from __future__ import annotations

import html
import io
import re
from typing import Any

_VARIABLES = ("ink", "muted", "line", "surface", "c1", "c2", "c3", "c4", "c5", *(f"s{step}" for step in range(1, 7)))
COLOURS = {name: f"#0102{number:02x}" for number, name in enumerate(_VARIABLES, 16)}
"""Stand-ins for the page's colours: ink, muted, line, surface, c1…c5 (categories), s1…s6 (few to many bits)."""

_SETTINGS = {
    "svg.fonttype": "none",
    "font.size": 11,
    "text.color": COLOURS["ink"],
    "axes.edgecolor": COLOURS["line"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.titlecolor": COLOURS["ink"],
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "figure.facecolor": "none",
    "grid.color": COLOURS["line"],
    "grid.linewidth": 0.8,
    "xtick.color": COLOURS["line"],
    "ytick.color": COLOURS["line"],
    "xtick.labelcolor": COLOURS["muted"],
    "ytick.labelcolor": COLOURS["ink"],
    "legend.frameon": False,
    "legend.labelcolor": COLOURS["ink"],
}


class Drawing:
    """One figure with one pair of axes. Used as a context manager: inside, the page's style holds.

    Args:
        name: Short name, unique on the page.
        width: Inches; 72 units of the SVG each.
        height: Inches.
    """

    def __init__(self, name: str, width: float, height: float) -> None:
        import matplotlib
        from matplotlib.figure import Figure

        self._name = name
        self._style = matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": name})
        self._style.__enter__()
        self.figure = Figure(figsize=(width, height), layout="constrained")
        self.axes: Any = self.figure.add_subplot()

    def __enter__(self) -> Drawing:
        return self

    def __exit__(self, *_: object) -> None:
        self._style.__exit__(None, None, None)

    def svg(self, description: str) -> str:
        """Return the drawing as an element to put into the page.

        Args:
            description: What a person who cannot see it should know.
        """
        written = io.StringIO()
        self.figure.savefig(
            written, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
        return _for_page(written.getvalue(), self._name, description)


def _for_page(text: str, name: str, description: str) -> str:
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", text)
    text = re.sub(r'(id="|href="#|url\(#)(?=[^")])', rf"\g<1>{name}-", text)
    for variable, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{variable})")
    text = re.sub(r"font: (?:\w+ )?([\d.]+)px [^;\"]+", r"font-size: \1px", text)
    text = re.sub(r"font-family: [^;\"]+;?", "", text)
    head = f'<svg role="img" aria-label="{html.escape(description)}" class="plot"'
    text = re.sub(r'<svg([^>]*?) width="[^"]*"', rf"{head}\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    return re.sub(r"\n\s*", "\n", text).strip()
