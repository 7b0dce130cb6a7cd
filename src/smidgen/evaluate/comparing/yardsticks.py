"""By which figure models are ranked, and how sure the differences between them are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from smidgen.evaluate.comparing.judging import Opinion
from smidgen.evaluate.comparing.results import Answered, Apart, Yardstick
from smidgen.evaluate.comparing.scoring import Scores
from smidgen.evaluate.findings import Z, share_interval
from smidgen.evaluate.paired import difference
from smidgen.evaluate.tally import standard_error

Pairing = Callable[[int, int], Apart]


def choose(
    scores: Sequence[Scores], answers: Sequence[Sequence[Answered | None]], opinion: Opinion | None
) -> Yardstick | None:
    """Return the first of these that two models at least have: tasks, texts, prompts with right answers, the judge.

    Fewer than `_ENOUGH` prompts with right answers come last: hardly any difference between so few is sure.

    Args:
        scores: What each model reached on tasks and texts.
        answers: Each model's answers.
        opinion: What the judge thinks.

    Returns:
        None where nothing tells good from bad.
    """
    prompts = _prompts(answers)
    scored = max((sum(each is not None and each.right is not None for each in own) for own in answers), default=0)
    first, last = (prompts, None) if scored >= _ENOUGH else (None, prompts and replace(prompts, weak=True))
    judged = _opinion(opinion)
    if judged is not None and opinion is not None and len({duel.prompt for duel in opinion.duels}) < _ENOUGH:
        judged = replace(judged, weak=True)
    found = [_tasks(scores), _text(scores), first, judged, last]
    return next((each for each in found if each is not None and sum(map(bool, each.values)) >= 2), None)


def _build(name: str, unit: str, higher: bool, values: Sequence[Apart | None], pairing: Pairing) -> Yardstick | None:
    if not any(value is not None for value in values):
        return None
    apart = tuple(
        tuple(
            pairing(mine, other) if values[mine] is not None and values[other] is not None and mine != other else None
            for other in range(len(values))
        )
        for mine in range(len(values))
    )
    return Yardstick(name, unit, higher, tuple(values), apart)


def _tasks(scores: Sequence[Scores]) -> Yardstick | None:
    """Mean of the tasks' main figures, for models that took all of them."""
    numbers = sorted({number for each in scores for number in each.tasks or {}})
    whole = [each.tasks if numbers and set(each.tasks or {}) == set(numbers) else None for each in scores]
    values: list[Apart | None] = []
    for tasks in whole:
        if tasks is None:
            values.append(None)
            continue
        figures = [tasks[number].figures[tasks[number].main] for number in numbers]
        mean = math.fsum(figure.value for figure in figures) / len(figures)
        error = Z * math.hypot(*(figure.standard_error for figure in figures)) / len(figures)
        values.append(Apart(mean, max(0.0, mean - error), min(1.0, mean + error)))

    def pair(mine: int, other: int) -> Apart:
        one, two = whole[mine], whole[other]
        assert one is not None and two is not None
        found = [two[number].against(one[number]) for number in numbers]
        value = math.fsum(each.value for each in found) / len(found)
        below = math.hypot(*(each.value - each.low for each in found)) / len(found)
        above = math.hypot(*(each.high - each.value for each in found)) / len(found)
        return Apart(value, value - below, value + above)

    first = next((tasks for tasks in whole if tasks), None)
    names = [first[number].task for number in numbers] if first else []
    name = names[0] if len(names) == 1 else f"mean of {', '.join(names)}"
    return _build(name, "share", True, values, pair)


def _text(scores: Sequence[Scores]) -> Yardstick | None:
    """Bits per byte of the first text."""
    losses = [each.losses[0] if each.losses else None for each in scores]
    values = [None if each is None else _interval(*each.bits()) for each in losses]

    def pair(mine: int, other: int) -> Apart:
        one, two = losses[mine], losses[other]
        assert one is not None and two is not None
        return _interval(*two.bits(one))

    name = next((each.text for each in losses if each is not None), "")
    return _build(f"bits per byte of {name}", "bits per byte", False, values, pair)


def _prompts(answers: Sequence[Sequence[Answered | None]]) -> Yardstick | None:
    """Share of the prompts with a right answer that were answered rightly."""
    marks = [[None if each is None else each.right for each in own] for own in answers]
    numbers = [number for number in range(len(marks[0])) if any(own[number] is not None for own in marks)]
    whole = [[own[number] for number in numbers] for own in marks]
    values: list[Apart | None] = []
    for own in whole:
        if not own or any(mark is None for mark in own):
            values.append(None)
        else:
            right = sum(bool(mark) for mark in own)
            values.append(Apart(right / len(own), *share_interval(right, len(own))))

    def pair(mine: int, other: int) -> Apart:
        found = difference([float(bool(mark)) for mark in whole[mine]], [float(bool(mark)) for mark in whole[other]])
        if len(numbers) < _FEW:  # resampling a handful of equal differences finds no doubt where there is much
            return Apart(found.value, min(found.low, -1.0), max(found.high, 1.0))
        return Apart(found.value, found.low, found.high)

    return _build("prompts answered rightly", "share", True, values, pair)


_ENOUGH = 10
"""Prompts from which on a model may be chosen by them."""

_FEW = 6
"""Questions below which even answering all of them better is no sure difference: 2 · ½⁵ > 0.05."""


def _opinion(opinion: Opinion | None) -> Yardstick | None:
    """Share of the pairs that the judge gave each model."""
    if opinion is None:
        return None
    values = [
        None if share is None or interval is None else Apart(share, *interval)
        for share, interval in zip(opinion.shares, opinion.intervals, strict=True)
    ]

    def pair(mine: int, other: int) -> Apart:
        points = [duel.points for duel in opinion.duels if (duel.first, duel.second) == (other, mine)]
        points += [1 - duel.points for duel in opinion.duels if (duel.first, duel.second) == (mine, other)]
        import numpy

        value = 2 * sum(points) / len(points) - 1
        error = 2 * Z * standard_error(numpy.array(points, numpy.float64))
        wide = 1.0 if len(points) < _FEW else error
        return Apart(value, max(-1.0, value - wide), min(1.0, value + wide))

    return _build(f"opinion of {opinion.judge}", "share", True, values, pair)


def _interval(value: float, error: float) -> Apart:
    return Apart(value, value - Z * error, value + Z * error)
