"""Drawings of what models trade: quality against bytes, quality against speed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smidgen.evaluate.report import words
from smidgen.evaluate.report.plots import Plot
from smidgen.evaluate.report.svg import COLOURS, Drawing

_COLOURS = ("c1", "c2", "c3", "c4", "c5")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_WIDE = 8  # how many times the least the greatest may be before the axis becomes logarithmic
_ANGLES = tuple(math.pi / 4 * step for step in (1, 3, 5, 7, 2, 6, 0, 4))
_APART = 13.0  # points from a marker to its letter


@dataclass(frozen=True)
class Spot:
    """One model in a drawing.

    Attributes:
        letter: What stands for it.
        number: Its place among all models, which decides colour and shape.
        x: Bytes or speed.
        y: Quality, with its interval.
    """

    letter: str
    number: int
    x: float
    y: Mapping[str, float]


def colour_of(number: int) -> str:
    """Return the name of a model's colour."""
    return _COLOURS[number % len(_COLOURS)]


def draw_all(plain: Mapping[str, Any], letters: Sequence[str]) -> list[Plot]:
    """Draw quality against bytes and against speed, where two models at least have both."""
    yardstick = plain["yardstick"]
    if yardstick is None:
        return []
    models, values = plain["models"], yardstick["values"]
    found = []
    sizes = [(model["about"]["bytes"] or 0) / 1e6 for model in models]
    speeds = [(model["writes"] or {}).get("median", 0.0) for model in models]
    for name, label, less, xs in (
        ("bytes", "size of the weights, MB", True, sizes),
        ("speed", "speed of writing, tokens/s", False, speeds),
    ):
        spots = [
            Spot(letters[number], number, xs[number], value)
            for number, value in enumerate(values)
            if value is not None and xs[number]
        ]
        if len(spots) >= 2:
            found.append(_draw(name, label, less, spots, yardstick))
    return found


def frontier(spots: Sequence[Spot], *, less: bool, higher: bool) -> list[Spot]:
    """Return the models that no other one beats in both figures, by x.

    Args:
        spots: All models.
        less: Whether less of x is better.
        higher: Whether more of y is better.

    Example:
        >>> spots = [Spot("A", 0, 1, {"value": 1}), Spot("B", 1, 2, {"value": 3}), Spot("C", 2, 3, {"value": 2})]
        >>> [spot.letter for spot in frontier(spots, less=True, higher=True)]
        ['A', 'B']
    """
    sign = 1 if higher else -1

    def beats(one: Spot, two: Spot) -> bool:
        x = two.x - one.x if less else one.x - two.x
        y = sign * (one.y["value"] - two.y["value"])
        return x >= 0 and y >= 0 and (x > 0 or y > 0)

    free = [spot for spot in spots if not any(beats(other, spot) for other in spots)]
    return sorted(free, key=lambda spot: spot.x)


def _draw(name: str, label: str, less: bool, spots: Sequence[Spot], yardstick: Mapping[str, Any]) -> Plot:
    higher = yardstick["higher"]
    front = frontier(spots, less=less, higher=higher)
    scale = 100 if yardstick["unit"] == "share" else 1
    with Drawing(f"pareto-{name}", 4.6, 3.5) as drawing:
        axes = drawing.axes
        axes.plot([spot.x for spot in front], [scale * spot.y["value"] for spot in front], "--", color=COLOURS["muted"])
        for spot in spots:
            value = spot.y["value"]
            error = [[scale * (value - spot.y["low"])], [scale * (spot.y["high"] - value)]]
            colour = COLOURS[colour_of(spot.number)]
            axes.errorbar(spot.x, scale * value, error, color=colour, elinewidth=1.2, capsize=3, alpha=0.8)
            marker = _MARKERS[spot.number // len(_COLOURS) % len(_MARKERS)]
            axes.plot(spot.x, scale * value, marker, color=colour, ms=9, mec=COLOURS["surface"], mew=1.2)
        xs = [spot.x for spot in spots]
        if max(xs) > _WIDE * min(xs):
            _log_scale(axes)
        axes.margins(x=0.14, y=0.16)
        if not higher:
            axes.invert_yaxis()
        _place_letters(drawing, spots, scale)
        axes.set_xlabel(label)
        axes.set_ylabel(f"{_short(yardstick)} — better upwards")
        axes.yaxis.label.set_size(10)
        axes.tick_params(which="both", length=0)
        axes.grid()
        best = words.listing([spot.letter for spot in front])
        told = "; ".join(
            f"{spot.letter} {words.number(spot.x)} and {words.number(scale * spot.y['value'])}" for spot in spots
        )
        description = f"{yardstick['name']} against {label}: {told}. No other model beats {best} in both."
        caption = f"Quality against {'size' if less else 'speed'}; nothing here beats {best} in both."
        return Plot(drawing.svg(description), caption)


def _log_scale(axes: Any) -> None:
    """Make the axis logarithmic, with plain numbers at 1, 2 and 5 of every power of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _short(yardstick: Mapping[str, Any]) -> str:
    if yardstick["unit"] == "share":
        return f"{yardstick['name']}, %"[:44]
    return str(yardstick["unit"])


def _place_letters(drawing: Drawing, spots: Sequence[Spot], scale: float) -> None:
    """Write each model's letter beside its marker, where it is farthest from all markers and letters."""
    drawing.figure.draw_without_rendering()
    transform = drawing.axes.transData.transform
    places = [tuple(transform((spot.x, scale * spot.y["value"]))) for spot in spots]
    taken = list(places)
    reach = _APART * drawing.figure.dpi / 72
    for spot, (x, y) in zip(spots, places, strict=True):
        others = [place for place in taken if place != (x, y)]

        def room(angle: float, x: float = x, y: float = y, others: list[Any] = others) -> float:
            at = x + reach * math.cos(angle), y + reach * math.sin(angle)
            return min((math.dist(at, other) for other in others), default=math.inf)

        # The first of those that have room enough, so that letters stand in the same corner where they can.
        angle = next((each for each in _ANGLES if room(each) > 2 * reach), max(_ANGLES, key=room))
        taken.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
        drawing.axes.annotate(
            spot.letter,
            (spot.x, scale * spot.y["value"]),
            (_APART * math.cos(angle), _APART * math.sin(angle)),
            textcoords="offset points",
            ha="center",
            va="center",
            fontweight="bold",
        )
