"""The table of a comparison: one row per measure, one cell per model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from smidgen.evaluate.findings import share_interval
from smidgen.evaluate.report import words


@dataclass(frozen=True)
class Cell:
    """One figure; ``small`` holds its interval, ``best`` marks the best of its row."""

    text: str
    small: str = ""
    best: bool = False


@dataclass(frozen=True)
class Row:
    """One measure of all models."""

    name: str
    hint: str
    cells: tuple[Cell, ...]


def rows(plain: Mapping[str, Any]) -> list[Row]:
    """Return one row per measure that any model has."""
    models, count = plain["models"], len(plain["models"])
    about = [model["about"] for model in models]
    rows = [
        _row("Size of the weights", "", [each["bytes"] for each in about], words.size, best=min),
        _row("Bits per weight", "", [each["bits_per_weight"] for each in about], lambda value: f"{value:.2f}"),
        _row("Parameters", "", [each["parameters"] for each in about], lambda value: f"{value / 1e6:,.1f} M"),
        _ranged("Writing", "tokens/s, median", [model["writes"] for model in models], max),
        _apart("Writing, times A", "pairs of the same prompt", plain["ratios"], lambda value: f"{value:.2f}×"),
        _ranged("First token", "ms, median", [model["first_ms"] for model in models], min),
        _row("Memory held", "after answering", [model["memory"] for model in models], words.size, best=min),
        _row("Loading", "", [model["load_seconds"] for model in models], words.seconds),
    ]
    for number in range(max((len(model["texts"]) for model in models), default=0)):
        rows.append(_text_row([model["texts"][number] if model["texts"] else None for model in models]))
    for number, task in enumerate(plain["tasks"]):
        rows.append(_share_row(task["name"], "", [model["tasks"][number] for model in models]))
    rows += _quality_row(plain) + _marks_row(plain) + _opinion_row(plain)
    return [row for row in rows if any(cell.text not in (words.NOTHING, "—") for cell in row.cells) and count]


def outline(plain: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a reader wants to know first of the model to take: its size, speed and quality; of none, nothing."""
    number = plain["choice"]
    if number is None:
        return []
    model, yardstick = plain["models"][number], plain["yardstick"]
    size, writes, value = model["about"]["bytes"], model["writes"], yardstick["values"][number]
    found = [("Size", words.size(size))] if size else []
    found += [("Writes", f"{words.number(writes['median'])} tokens/s")] if writes else []
    is_share = yardstick["unit"] == "share"
    shown = words.share(value["value"]) if is_share else f"{value['value']:.3f} {yardstick['unit']}"
    return [*found, (f"Quality: {yardstick['name']}", shown)]


def _quality_row(plain: Mapping[str, Any]) -> list[Row]:
    """Return how far every model's figure of quality lies from the first one's."""
    yardstick = plain["yardstick"]
    if not yardstick or not any(yardstick["apart"][0]):
        return []
    is_share = yardstick["unit"] == "share"

    def shown(value: float) -> str:
        return (f"{100 * value:+.1f}" if is_share else f"{value:+.3f}").replace("-", "−")

    unit = "percentage points" if is_share else yardstick["unit"]
    hint = f"{unit}; {'more' if yardstick['higher'] else 'less'} is better"
    return [_apart("Quality against A", hint, yardstick["apart"][0], shown)]


def _row(
    name: str,
    hint: str,
    values: Sequence[float | None],
    shown: Callable[[Any], str],
    best: Callable[[list[float]], float] | None = None,
) -> Row:
    known = [value for value in values if value is not None]
    top = best(known) if best is not None and len(known) > 1 else None
    cells = [
        Cell(words.NOTHING if value is None else shown(value), best=value == top and top is not None)
        for value in values
    ]
    return Row(name, hint, tuple(cells))


def _ranged(
    name: str, hint: str, ranges: Sequence[Mapping[str, Any] | None], best: Callable[[list[float]], float]
) -> Row:
    plain = _row(name, hint, [each["median"] if each else None for each in ranges], words.number, best)
    small = [
        f"{words.number(each['low'])} to {words.number(each['high'])}" if each and len(each["rounds"]) > 1 else ""
        for each in ranges
    ]
    return Row(
        name, hint, tuple(Cell(cell.text, note, cell.best) for cell, note in zip(plain.cells, small, strict=True))
    )


def _apart(name: str, hint: str, values: Sequence[Mapping[str, float] | None], shown: Callable[[float], str]) -> Row:
    cells = [
        Cell("—") if each is None else Cell(shown(each["value"]), f"{shown(each['low'])} to {shown(each['high'])}")
        for each in values
    ]
    return Row(name, hint, tuple(cells))


def _text_row(texts: Sequence[Mapping[str, Any] | None]) -> Row:
    known = [each["bits_per_byte"] for each in texts if each]
    cells = [
        Cell(words.NOTHING)
        if each is None
        else Cell(
            f"{each['bits_per_byte']:.3f}",
            f"{each['low']:.3f} to {each['high']:.3f}",
            len(known) > 1 and each["bits_per_byte"] == min(known),
        )
        for each in texts
    ]
    name = next(each["name"] for each in texts if each)
    return Row("Bits per byte", f"of {name}; less is better", tuple(cells))


def _share_row(name: str, hint: str, figures: Sequence[Mapping[str, Any] | None]) -> Row:
    known = [each["value"] for each in figures if each]
    cells = [
        Cell(words.NOTHING)
        if each is None
        else Cell(
            words.share(each["value"]),
            f"{words.share(each['low'])} to {words.share(each['high'])}",
            len(known) > 1 and each["value"] == max(known),
        )
        for each in figures
    ]
    items = next((each["items"] for each in figures if each), 0)
    main = next((each["main"] for each in figures if each), "")
    return Row(name, hint or f"{main}, {items:,} questions", tuple(cells))


def _marks_row(plain: Mapping[str, Any]) -> list[Row]:
    """Return how many prompts each model answered rightly, where prompts say what is right."""
    figures: list[dict[str, Any] | None] = []
    for model in plain["models"]:
        marks = [answer["right"] for answer in model["answers"] if answer and answer["right"] is not None]
        if not marks:
            figures.append(None)
            continue
        low, high = share_interval(sum(marks), len(marks))
        figures.append(
            {"value": sum(marks) / len(marks), "low": low, "high": high, "items": len(marks), "main": "right"}
        )
    asked = max((each["items"] for each in figures if each), default=0)
    return [_share_row("Prompts answered rightly", f"of {asked}", figures)] if asked else []


def _opinion_row(plain: Mapping[str, Any]) -> list[Row]:
    opinion = plain["opinion"]
    if opinion is None:
        return []
    figures = [
        None if share is None else {"value": share, "low": interval[0], "high": interval[1], "items": 0, "main": ""}
        for share, interval in zip(opinion["shares"], opinion["intervals"], strict=True)
    ]
    return [_share_row("The judge’s opinion", f"pairs won, ties half; {opinion['judge']}", figures)]
