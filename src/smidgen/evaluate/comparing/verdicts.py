"""What a comparison says about which model to take, in one sentence per model, from its plain data alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smidgen.evaluate.report import words

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_CLOSE = 0.05
"""Share of the best's figure by which a model may be worse, at the far end of its interval, to be taken instead."""

_SAME_SPEED = 0.02
"""Share by which speeds may differ and still be called the same."""


def of(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return what follows from the figures, in words.

    ``headline``, ``verdicts`` (one sentence per model), ``labels`` (a few words), ``letters``, ``choice`` (number of
    the model to take), ``caveats``, and ``repeated``: how the figures moved since they were measured before.
    """
    models = plain["models"]
    ruled_out = [_better(plain, number) for number in range(len(models))]
    best = _choice(plain)
    return {
        "headline": _headline(plain, best),
        "verdicts": [_sentence(plain, number, ruled_out[number]) for number in range(len(models))],
        "labels": [_label(plain, number, best, ruled_out[number]) for number in range(len(models))],
        "choice": best,
        "caveats": _caveats(plain),
        "letters": [letter(number) for number in range(len(models))],
        "repeated": about_repeat(plain) if plain["repeat"] else "",
    }


def letter(number: int) -> str:
    """Return what stands for a model in tables and drawings.

    Example:
        >>> letter(0), letter(27)
        ('A', 'B2')
    """
    return LETTERS[number % 26] + (str(number // 26 + 1) if number >= 26 else "")


def _value(plain: Mapping[str, Any], number: int) -> Mapping[str, float] | None:
    """Return a model's figure; that of one whose part broke off is set aside only where it is missing."""
    return plain["yardstick"]["values"][number] if plain["yardstick"] else None


def _worse(plain: Mapping[str, Any], number: int, than: int) -> bool:
    """Say whether a model is surely worse than another."""
    apart = plain["yardstick"]["apart"][than][number]
    if apart is None:
        return False
    return bool(apart["high"] < 0 if plain["yardstick"]["higher"] else apart["low"] > 0)


def _close(plain: Mapping[str, Any], number: int, best: int) -> bool:
    """Say whether a model is surely hardly worse than the best; doubt speaks against it."""
    apart = plain["yardstick"]["apart"][best][number]
    if apart is None:
        return False
    lost = -apart["low"] if plain["yardstick"]["higher"] else apart["high"]
    return bool(lost <= _CLOSE * abs(plain["yardstick"]["values"][best]["value"]))


def _choice(plain: Mapping[str, Any]) -> int | None:
    """Return the smallest model (fastest, where sizes are not known) that is surely close to the best.

    Of several that are equally small the best.
    """
    rated = [number for number in range(len(plain["models"])) if _value(plain, number) is not None]
    if not rated or plain["yardstick"]["weak"]:
        return None
    sign = -1 if plain["yardstick"]["higher"] else 1
    best = min(rated, key=lambda number: sign * _value(plain, number)["value"])  # type: ignore[index]
    good = [number for number in rated if number == best or _close(plain, number, best)]
    models = plain["models"]
    if all(models[number]["about"]["bytes"] for number in good):
        return min(
            good,
            key=lambda number: (models[number]["about"]["bytes"], sign * _value(plain, number)["value"]),  # type: ignore[index]
        )
    return max(good, key=lambda number: (models[number]["writes"] or {}).get("median", 0.0))


def _headline(plain: Mapping[str, Any], best: int | None) -> str:
    models = plain["models"]
    if best is None:
        rated = [(model["writes"]["median"], number) for number, model in enumerate(models) if model["writes"]]
        if not rated:
            return "Nothing was measured."
        speed, number = max(rated)
        tells = "too little was asked to tell" if plain["yardstick"] else "nothing here tells"
        return (
            f"{_called(plain, number)} writes fastest, {words.number(speed)} tokens/s; {tells} good answers from bad."
        )
    name, yardstick = _called(plain, best), plain["yardstick"]
    known = [number for number in range(len(models)) if _value(plain, number) is not None]
    if len(known) == 1:
        return f"Only {name} could be measured by {_in_short(yardstick)}."
    sign = -1 if yardstick["higher"] else 1
    top = min(known, key=lambda number: sign * _value(plain, number)["value"])  # type: ignore[index]
    if top == best:
        rivals = [letter(number) for number in known if number != best and not _worse(plain, number, best)]
        if not rivals:
            return f"{name} is surely the best, by {_in_short(yardstick)}."
        return f"{name} came out best by {_in_short(yardstick)}, not surely better than {words.listing(rivals)}."
    what = "smallest" if all(models[number]["about"]["bytes"] for number in known) else "fastest"
    return f"{name} is the {what} that is surely within {_CLOSE:.0%} of the best, by {_in_short(yardstick)}."


def _called(plain: Mapping[str, Any], number: int) -> str:
    return f"{letter(number)} ({plain['models'][number]['about']['name']})"


def _sentence(plain: Mapping[str, Any], number: int, better: int | None) -> str:
    model, first = plain["models"][number], plain["models"][0]
    if number == 0:
        parts = [words.size(model["about"]["bytes"]) if model["about"]["bytes"] else "size not told"]
        parts.append(f"writes {words.number(model['writes']['median'])} tokens/s" if model["writes"] else "speed —")
        value = _value(plain, 0)
        if value:
            parts.append(_reached(value["value"], plain["yardstick"]))
        said = f"The others are set against it: {', '.join(parts)}"
    else:
        parts = [_size(model, first), _speed(plain["ratios"][number]), _quality(plain, number)]
        said = "; ".join(part for part in parts if part)
        said = said[:1].upper() + said[1:] if said else "Nothing could be measured"
    if better is not None:
        said += f". {letter(better)} is smaller, at least as fast and no worse"
    if model["error"]:
        said += ". Its part broke off: what is shown is what was reached"
    return f"{said}."


def _reached(value: float, yardstick: Mapping[str, Any]) -> str:
    """Say what a model reached.

    Example:
        >>> _reached(0.5, {"name": "arc", "unit": "share"})
        '50.0% (arc)'
        >>> _reached(0.9, {"name": "bits per byte of a novel", "unit": "bits per byte"})
        '0.900 bits per byte of a novel'
    """
    name, unit = yardstick["name"], yardstick["unit"]
    return f"{show(value, unit, bare=True)} {name}" if name.startswith(unit) else f"{show(value, unit)} ({name})"


def _in_short(yardstick: Mapping[str, Any]) -> str:
    """Return the name of a yardstick, without that of a text: the figures have it.

    Example:
        >>> _in_short({"name": "bits per byte of a novel", "unit": "bits per byte"})
        'bits per byte'
    """
    name, unit = str(yardstick["name"]), str(yardstick["unit"])
    return unit if name.startswith(f"{unit} of ") else name


def _size(model: Mapping[str, Any], first: Mapping[str, Any]) -> str:
    own, other = model["about"]["bytes"], first["about"]["bytes"]
    if not own:
        return ""
    return f"{words.size(own)}, {own / other:.2f} of A’s bytes" if other else words.size(own)


def _speed(ratio: Mapping[str, float] | None) -> str:
    if ratio is None:
        return ""
    value = ratio["value"]
    if abs(value - 1) < _SAME_SPEED or ratio["low"] <= 1 <= ratio["high"]:
        return "as fast as A, as far as can be told"
    return f"writes {value:.2f} times as fast" if value > 1 else f"writes at {value:.2f} of A’s speed"


def _quality(plain: Mapping[str, Any], number: int) -> str:
    yardstick = plain["yardstick"]
    apart = yardstick["apart"][0][number] if yardstick else None
    if apart is None:
        return ""
    if apart["low"] <= 0 <= apart["high"]:
        return "in quality it cannot be told from A"
    better = (apart["value"] > 0) == yardstick["higher"]
    low, high = sorted((abs(apart["low"]), abs(apart["high"])))
    value, low, high = (
        show(each, yardstick["unit"], bare=True).rstrip("%") for each in (abs(apart["value"]), low, high)
    )
    unit = "percentage points" if yardstick["unit"] == "share" else yardstick["unit"]
    return f"{'better' if better else 'worse'} by {value} {unit} ({low} to {high})"


def show(value: float, unit: str, *, bare: bool = False) -> str:
    """Write a figure of the yardstick.

    Example:
        >>> show(0.8154, "bits per byte"), show(0.25, "share"), show(0.012, "bits per byte", bare=True)
        ('0.815 bits per byte', '25.0%', '0.012')
    """
    if unit == "share":
        return f"{100 * value:.1f}%"
    return f"{value:.3f}" if bare else f"{value:.3f} {unit}"


def _better(plain: Mapping[str, Any], number: int) -> int | None:
    """Return a model that is smaller, at least as fast and no worse; None where there is none."""
    models = plain["models"]
    value, own = _value(plain, number), models[number]
    if value is None or plain["yardstick"]["weak"] or not own["about"]["bytes"] or not own["writes"]:
        return None
    sign = -1 if plain["yardstick"]["higher"] else 1
    for other, model in enumerate(models):
        theirs = _value(plain, other)
        if other == number or theirs is None or not model["about"]["bytes"] or not model["writes"]:
            continue
        if (
            model["about"]["bytes"] < own["about"]["bytes"]
            and model["writes"]["median"] >= own["writes"]["median"]
            and sign * theirs["value"] <= sign * value["value"]
        ):
            return other
    return None


def _label(plain: Mapping[str, Any], number: int, best: int | None, better: int | None) -> str:
    if plain["models"][number]["error"]:
        return "incomplete"
    if number == best:
        return "best, but not surely" if _doubted(plain, number) else "take this one"
    if best is None or _value(plain, number) is None:
        return "not ranked"
    if better is not None:
        return f"{letter(better)} is no worse, and smaller"
    if _worse(plain, best, number):
        return "better, but larger"
    if _worse(plain, number, best):
        return "worse, but with less" if _leaner(plain, number, best) else "worse"
    if _leaner(plain, number, best):
        return "less, and perhaps worse"
    sizes = [plain["models"][each]["about"]["bytes"] for each in (number, best)]
    if not all(sizes):
        return "not surely better"
    return "as large, and no better" if sizes[0] == sizes[1] else "not surely better, and larger"


def _doubted(plain: Mapping[str, Any], best: int) -> bool:
    """Say whether the model with the best figure is not surely better than one that is smaller or faster."""
    known = [number for number in range(len(plain["models"])) if number != best and _value(plain, number) is not None]
    sign = -1 if plain["yardstick"]["higher"] else 1
    own = sign * _value(plain, best)["value"]  # type: ignore[index]
    if any(sign * _value(plain, number)["value"] < own for number in known):  # type: ignore[index]
        return False  # it was chosen for being surely close to the best
    return any(_leaner(plain, number, best) and not _worse(plain, number, best) for number in known)


def _leaner(plain: Mapping[str, Any], number: int, than: int) -> bool:
    """Say whether a model is smaller or faster than another one."""
    one, two = plain["models"][number], plain["models"][than]
    sizes = one["about"]["bytes"], two["about"]["bytes"]
    faster = one["writes"] and two["writes"] and one["writes"]["median"] > two["writes"]["median"]
    return bool((all(sizes) and sizes[0] < sizes[1]) or faster)


def _caveats(plain: Mapping[str, Any]) -> list[str]:
    """Say what a reader must know before trusting the figures."""
    found: list[str] = []
    if plain["noise"] > plain["setting"]["noisy"]:
        found.append(
            f"The machine was noisy: median speeds of two rounds differ by up to {words.share(plain['noise'])}; "
            "differences in speed below that say nothing."
        )
    if plain["setting"]["rounds"] < 2:
        found.append("Everything was asked once, so that nothing tells how noisy the machine was.")
    if not plain["setting"]["together"]:
        found.append("The models do not fit into memory together and were asked one after the other, not in turns.")
    unsteady = [_called(plain, number) for number, model in enumerate(plain["models"]) if _changes(model)]
    if unsteady:
        found.append(f"Asked again, {words.listing(unsteady)} gave other answers, although chance had no part.")
    if plain["opinion"]:
        found += _about_judge(plain["opinion"])
    if plain["judge_failure"]:
        found.append(f"The judge could not do its work: {plain['judge_failure']}")
    found += [
        f"{_called(plain, number)}: {each['error']}" for number, each in enumerate(plain["models"]) if each["error"]
    ]
    return found + [
        f"{_called(plain, number)}: {note}" for number, each in enumerate(plain["models"]) for note in each["notes"]
    ]


def about_repeat(plain: Mapping[str, Any]) -> str:
    """Say in one or two sentences how the figures moved since the same comparison was measured before."""
    repeat, limit = plain["repeat"], plain["setting"]["noisy"]
    if repeat["identical"]:
        said = f"Measured before, on {repeat['earlier'][:10]}: every figure of quality is the same."
    else:
        said = f"Measured before, on {repeat['earlier'][:10]}: these are not the same: {'; '.join(repeat['moved'])}."
    moved = [max(speed, 1 / speed) - 1 for speed in repeat["speeds"] if speed]
    if not moved:
        return said
    furthest = words.share(max(moved))
    if max(moved) <= limit:
        return f"{said} Median speeds moved by {furthest} at most."
    return f"{said} The machine was noisy: median speeds moved by up to {furthest}."


def _changes(model: Mapping[str, Any]) -> bool:
    return any(answer is not None and not answer["repeats"] for answer in model["answers"])


def _about_judge(opinion: Mapping[str, Any]) -> Sequence[str]:
    found = [
        f"What {opinion['judge']} says of the answers is its opinion, no measurement: both orders of a pair agreed in "
        f"{words.share(opinion['agreed'])} of {len(opinion['duels']):,} pairs, the others count as ties."
    ]
    if opinion["takes_part"]:
        found.append(f"{opinion['judge']} judges itself here; judges tend to like their own answers.")
    return found
