"""Numbers as people read them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

NOTHING = "not measured"


def size(count: float | None) -> str:
    """Show bytes in decimal units.

    Example:
        >>> size(79_998_976), size(1_500_000_000), size(None)
        ('80.0 MB', '1.50 GB', 'not measured')
    """
    if count is None:
        return NOTHING
    for unit, digits in (("B", 0), ("kB", 1), ("MB", 1)):
        if count < 999.95 or (unit == "B" and count < 1000):
            return f"{count:.{digits}f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def share(value: float | None) -> str:
    """Show a share as a percentage with one decimal.

    Example:
        >>> share(0.9123), share(0.00004)
        ('91.2%', 'under 0.1%')
    """
    if value is None:
        return NOTHING
    return "under 0.1%" if 0 < value < 0.0005 else f"{100 * value:.1f}%"


def number(value: float | None) -> str:
    """Show a number with about three significant digits, without an exponent.

    Example:
        >>> number(1234.5), number(0.06123), number(18.27), number(3), number(0.0)
        ('1,234', '0.0612', '18.3', '3', '0')
    """
    if value is None:
        return NOTHING
    if value == 0 or (isinstance(value, int) and not isinstance(value, bool)):
        return f"{value:,.0f}"
    if not math.isfinite(value):
        return "not finite"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 6)}f}"


def interval(value: float, half: float) -> str:
    """Show a value with half the width of its interval, both to the width's second digit.

    Example:
        >>> interval(0.0612, 0.00412), interval(1.0459, 0.01196)
        ('0.0612 ± 0.0041', '1.046 ± 0.012')
    """
    if not half or not math.isfinite(half):
        return number(value)
    digits = min(6, max(0, 1 - math.floor(math.log10(half))))
    return f"{value:,.{digits}f} ± {half:,.{digits}f}"


def seconds(value: float | None) -> str:
    """Show a duration.

    Example:
        >>> seconds(0.0123), seconds(9.46), seconds(252), seconds(7320)
        ('12 ms', '9.5 s', '4 min 12 s', '2 h 2 min')
    """
    if value is None:
        return NOTHING
    if value < 0.9995:
        return f"{1000 * value:.0f} ms"
    if value < 59.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def one_in(value: float) -> str:
    """Show a share as "1 in n".

    Example:
        >>> one_in(0.088), one_in(0.3), one_in(0.6)
        ('about 1 in 11', 'about 1 in 3', 'more than half')
    """
    return "more than half" if value > 0.5 else f"about 1 in {round(1 / value):,}"


def listing(items: list[str]) -> str:
    """Join words as a sentence does.

    Example:
        >>> listing(["size"]), listing(["size", "speed", "quality"])
        ('size', 'size, speed and quality')
    """
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def settings(value: Mapping[str, Any]) -> str:
    """Show a step's parameters in one line.

    Example:
        >>> settings({"structure": "layer", "keep": 28})
        'structure layer, keep 28'
    """
    return ", ".join(f"{key.replace('_', ' ')} {_short(entry)}" for key, entry in value.items())


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), default=str)
    return text if len(text) <= 60 else text[:57] + "…"


def pretty(value: Any) -> str:
    """Show nested data with indentation."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


FILTERS: dict[str, Callable[..., str]] = {
    "size": size,
    "share": share,
    "number": number,
    "seconds": seconds,
    "settings": settings,
    "pretty": pretty,
}
