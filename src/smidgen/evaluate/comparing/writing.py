"""A comparison as a file: a page for people, Markdown, CSV for spreadsheets, JSON for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import InvalidInput
from smidgen.evaluate.comparing.verdicts import letter, show
from smidgen.evaluate.report import words

if TYPE_CHECKING:
    from smidgen.evaluate.comparing.results import Comparison


def check_output(path: Path) -> None:
    """Refuse a file of a kind that nobody can write.

    Raises:
        InvalidInput: Its name ends in none of the known suffixes, or it is a folder.
    """
    if path.suffix.lower() not in _WRITERS or path.is_dir():
        known = ", ".join(_WRITERS)
        raise InvalidInput(
            f"--output {str(path)!r} is not the name of a file of {known}.", remedy="Choose such a name."
        )


def write(comparison: Comparison, path: Path) -> None:
    """Write a comparison in the form that the file's suffix says.

    Raises:
        InvalidInput: The suffix is not known.
    """
    from smidgen.models.files import atomic_write

    check_output(path)
    atomic_write(path, _WRITERS[path.suffix.lower()](comparison))


def rows(plain: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one flat row per model, every figure with its interval in columns of its own."""
    found = []
    for number, model in enumerate(plain["models"]):
        about, writes, first = model["about"], model["writes"] or {}, model["first_ms"] or {}
        row = {"letter": letter(number), "model": about["name"], "engine": about["engine"]}
        row |= {name: about[name] for name in ("bytes", "parameters", "bits_per_weight", "format")}
        row |= {"memory_bytes": model["memory"], "load_seconds": model["load_seconds"]}
        row |= {f"tokens_per_second{end}": writes.get(name) for end, name in _ENDS}
        row |= {f"first_token_ms{end}": first.get(name) for end, name in _ENDS}
        ratio = plain["ratios"][number] or {}
        row |= {f"speed_ratio{end}": ratio.get(name) for end, name in (("", "value"), *_ENDS[1:])}
        for each in model["texts"]:
            row |= {f"bits_per_byte {each['name']}{end}": each[name] for end, name in _BITS}
        for each in filter(None, model["tasks"]):
            row |= {f"{each['name']} {each['main']}{end}": each[name] for end, name in (("", "value"), *_ENDS[1:])}
        if plain["opinion"]:
            row["judge_share"] = plain["opinion"]["shares"][number]
        found.append(row | {"verdict": plain["verdicts"][number], "error": model["error"]})
    return found


_ENDS = (("", "median"), (" low", "low"), (" high", "high"))
_BITS = (("", "bits_per_byte"), (" low", "low"), (" high", "high"))


def _csv(comparison: Comparison) -> str:
    table = rows(comparison.to_dict())
    columns = list(dict.fromkeys(name for row in table for name in row))
    written = io.StringIO()
    writer = csv.DictWriter(written, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return written.getvalue()


def _json(comparison: Comparison) -> str:
    return json.dumps(comparison.to_dict(), indent=2, ensure_ascii=False, default=str) + "\n"


def _markdown(comparison: Comparison) -> str:
    plain = comparison.to_dict()
    yardstick = plain["yardstick"]
    heads = ["", "model", "size", "tokens/s", "first token", *([yardstick["name"]] if yardstick else []), "verdict"]
    lines = [f"**{plain['headline']}**", "", _line(heads), _line(["---"] * len(heads))]
    for number, model in enumerate(plain["models"]):
        cells = [letter(number), model["about"]["name"], words.size(model["about"]["bytes"])]
        cells += [_range(model["writes"]), _range(model["first_ms"], " ms")]
        if yardstick:
            value = yardstick["values"][number]
            cells.append(_value(value, yardstick["unit"]) if value else words.NOTHING)
        lines.append(_line([*cells, plain["verdicts"][number]]))
    lines += ["", *(f"- {caveat}" for caveat in plain["caveats"])]
    for number, prompt in enumerate(plain["prompts"]):
        lines += ["", f"## {prompt['text']}"]
        for place, model in enumerate(plain["models"]):
            answer = model["answers"][number]
            said = answer["text"] if answer else "(no answer)"
            lines += [
                "",
                f"**{letter(place)}**, {model['about']['name']}:",
                "",
                *(f"> {line}" for line in said.split("\n")),
            ]
    return "\n".join(lines).rstrip() + "\n"


def _line(cells: list[str]) -> str:
    escaped = [cell.replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"


def _range(measured: Mapping[str, Any] | None, unit: str = "") -> str:
    return f"{words.number(measured['median'])}{unit}" if measured else words.NOTHING


def _value(value: Mapping[str, float], unit: str) -> str:
    low, high = (show(value[end], unit, bare=True) for end in ("low", "high"))
    return f"{show(value['value'], unit, bare=True)} ({low} to {high})"


def _html(comparison: Comparison) -> str:
    return comparison.to_html()


_WRITERS: dict[str, Callable[[Comparison], str]] = {".html": _html, ".md": _markdown, ".csv": _csv, ".json": _json}
