"""Perceptual allocation: which matrix gets how many bits, so that the output notices least.

For every matrix and every number format that can hold it the damage in KL divergence is predicted from the
model's sensitivity (`sensitivity`) and the error that rounding leaves after compensation: a column's rounding costs
1/U_jj² of its square once the later columns have repaired what they can (arXiv 2210.17323, U the Cholesky factor
of H⁻¹). What rounding the matrix's inputs costs where llama.cpp multiplies in that format is added. The sizes and
damages make a knapsack, solved exactly over bytes in fine steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from smidgen import formats
from smidgen.progress import Progress, silent, track
from smidgen.shrink.quantize.sensitivity import costs_of

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model
    from smidgen.shrink.quantize.sensitivity import Sensitivity

BUCKETS = 1 << 17
SAMPLED_ROWS, SAMPLED_TOKENS = 16, 512
TRIED_TOGETHER = 30
LOWEST_BITS = 2.5
"""With fewer bits per weight the error is too large for a damage to be foretold from slopes: 0.07 nats predicted for
ternary down projections were several times that."""


@dataclass(frozen=True)
class Choice:
    """One way to store one matrix.

    Attributes:
        format: Number format, as "q4_0".
        bytes: Size of the matrix in it.
        damage: Predicted rise of the KL divergence, nats per token.
    """

    format: str
    bytes: int
    damage: float


def block_formats() -> tuple[str, ...]:
    """List the formats of GGUF that quantise, the smallest first."""
    known = {name: formats.find(name) for name in formats.names()}
    found = [
        name for name, each in known.items() if isinstance(each, formats.BlockFormat) and each.ggml_type is not None
    ]
    return tuple(sorted(found, key=lambda name: (formats.find(name).bits_per_weight, name)))


def _foreseeable() -> tuple[str, ...]:
    return tuple(name for name in block_formats() if formats.find(name).bits_per_weight >= LOWEST_BITS)


def choices(
    model: Model,
    sensitivity: Sensitivity,
    *,
    factors: Mapping[str, float] | None = None,
    allowed: Sequence[str] | None = None,
    progress: Progress = silent,
) -> dict[str, list[Choice]]:
    """Predict for every matrix what each format would cost, and keep those worth having.

    Args:
        model: The model to be quantised.
        sensitivity: What `probe` found of it.
        factors: What `sensitivity.factors` measured, by matrix name; 1 where None.
        allowed: Names of the formats to consider; where None all block formats of at least `LOWEST_BITS`.
        progress: Receives one event per matrix.

    A matrix that still is as a quantised file held it has the format it had there at no damage.

    Returns:
        By matrix name the choices on the Pareto front of bytes and damage, smallest first.
    """
    names = tuple(allowed) if allowed else _foreseeable()
    costs, off = _Costs(model, sensitivity), factors or {}
    together = model.anatomy.stored_together()
    joined = {name for members in together for name in members}
    table: dict[str, list[Choice]] = {}
    for members in track(_alike(model), "predicting damage", progress, unit="groups"):
        sampled = {name: costs.sample(name) for name in members}
        for name, found in _tried(model, sampled, names).items():
            found = [
                replace(choice, damage=choice.damage * off.get(name, 1.0) + costs.reading(name, choice.format))
                for choice in found
            ]
            table[name] = found if name in joined else _with_original(model, name, found, allowed)
    fronts = {name: pareto_front(table[name]) for name in {*table}.difference(*together)}
    for members in together:
        # Experts that are stored as one have the formats on the front of what they cost together, in its order.
        order = [choice.format for choice in pareto_front(_summed([table[name] for name in members]))]
        for name in members:
            fronts[name] = sorted(
                (choice for choice in table[name] if choice.format in order),
                key=lambda choice: order.index(choice.format),
            )
    return {name: fronts[name] for name in model.anatomy.matrices()}


def _with_original(model: Model, name: str, found: list[Choice], allowed: Sequence[str] | None) -> list[Choice]:
    """Put the bytes that a matrix was read from among its choices: they do no damage."""
    original = model.original(name)
    if original is None or (allowed and original.format not in allowed):
        return found
    others = [choice for choice in found if choice.format != original.format]
    return [*others, Choice(original.format, original.data.numel(), 0.0)]


def _summed(fronts: Sequence[Sequence[Choice]]) -> list[Choice]:
    """Add up the choices of matrices that are stored as one, format by format."""
    return [
        Choice(found[0].format, sum(choice.bytes for choice in found), sum(choice.damage for choice in found))
        for found in zip(*fronts, strict=True)
    ]


def _alike(model: Model) -> list[list[str]]:
    """Group the matrices by the width of their rows, so that many are tried at once."""
    groups: dict[int, list[list[str]]] = {}
    for name in model.anatomy.matrices():
        lists = groups.setdefault(model.weight(name).shape[1], [[]])
        if len(lists[-1]) == TRIED_TOGETHER:
            lists.append([])
        lists[-1].append(name)
    return [members for lists in groups.values() for members in lists]


def _tried(
    model: Model, sampled: Mapping[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]], names: Sequence[str]
) -> dict[str, list[Choice]]:
    """Round the sampled rows of matrices of one width in every format that can hold them."""
    import torch

    counts = [len(weight) for weight, _, _ in sampled.values()]
    weights = torch.cat([weight for weight, _, _ in sampled.values()])
    importance = torch.cat(
        [column.expand(count, -1) for (_, column, _), count in zip(sampled.values(), counts, strict=True)]
    )
    found: dict[str, list[Choice]] = {name: [] for name in sampled}
    for candidate in names:
        number_format = formats.find(candidate)
        if not number_format.fits(weights.shape[1]):
            continue
        change = number_format.unpack(number_format.quantize(weights, importance)) - weights
        per_row = torch.split((change.square() * importance).sum(1), counts)
        for (name, (_, _, rows)), errors in zip(sampled.items(), per_row, strict=True):
            size = number_format.bytes_for(tuple(model.weight(name).shape))
            found[name].append(Choice(candidate, size, 0.5 * float(errors @ rows)))
    return found


class _Costs:
    """Per matrix: the rows to try, what each column's error costs, and what each row's error costs."""

    def __init__(self, model: Model, sensitivity: Sensitivity) -> None:
        self.model, self.sensitivity = model, sensitivity

    def sample(self, name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return rows ``[n, columns]``, importance ``[columns]`` and row weights ``[n]`` that stand for all rows."""
        import torch

        weight, anatomy = self.model.weight(name).detach(), self.model.anatomy
        hessian, total = costs_of(self.model, self.sensitivity, name)
        if name == f"{anatomy.embedding}.weight":
            shares = self.sensitivity.token_share
            rows = shares.topk(min(SAMPLED_TOKENS, len(weight))).indices
        else:
            shares = self.sensitivity.head if name == f"{anatomy.head}.weight" else self.sensitivity.outputs[name]
            rows = torch.arange(0, len(weight), max(1, len(weight) // SAMPLED_ROWS))
        weights = shares[rows] * (total / shares[rows].sum())
        return weight[rows].float(), self.sensitivity.inverse_factor(hessian).diagonal().square().reciprocal(), weights

    def reading(self, name: str, number_format: str) -> float:
        """Return what it costs that llama.cpp rounds the inputs of a matrix that is stored in a format."""
        block = formats.find(number_format).input_block
        return self.sensitivity.inputs.get(name, {}).get(block, 0.0) if block else 0.0


def pareto_front(found: Iterable[Choice]) -> list[Choice]:
    """Keep the choices that no other beats in bytes and damage at once, smallest first.

    Example:
        >>> front = pareto_front([Choice("a", 10, 0.5), Choice("b", 10, 0.4), Choice("c", 20, 0.45)])
        >>> [choice.format for choice in front]
        ['b']
    """
    front: list[Choice] = []
    for choice in sorted(found, key=lambda item: (item.bytes, item.damage, item.format)):
        if not front or choice.damage < front[-1].damage:
            front.append(choice)
    return front


def smallest_bytes(table: Mapping[str, list[Choice]]) -> int:
    """Sum the smallest choice of every matrix."""
    return sum(front[0].bytes for front in table.values())


def least_damage(table: Mapping[str, list[Choice]], budget: int) -> float | None:
    """Bound the damage that `allocate` will reach from below, in a fraction of its time.

    The knapsack's linear relaxation: steps to larger formats are taken in the order of damage saved per byte,
    the last one in part. None when even the smallest choices exceed the budget.

    Example:
        >>> table = {"a": [Choice("small", 4, 9.0), Choice("large", 8, 1.0)]}
        >>> least_damage(table, 6)
        5.0
    """
    room = budget - smallest_bytes(table)
    if room < 0:
        return None
    damage = sum(front[0].damage for front in table.values())
    steps = [step for front in table.values() for step in _hull(front)]
    for saved, size in sorted(steps, key=lambda step: -step[0] / step[1]):
        damage -= saved * min(1.0, room / size)
        room -= size
        if room <= 0:
            break
    return damage


def _hull(front: Sequence[Choice]) -> list[tuple[float, int]]:
    """Return the steps (damage saved, bytes added) along the lower convex hull of a Pareto front."""
    hull: list[Choice] = []
    for choice in front:
        while len(hull) > 1 and _slope(hull[-1], choice) <= _slope(hull[-2], hull[-1]):
            hull.pop()
        hull.append(choice)
    return [(one.damage - two.damage, two.bytes - one.bytes) for one, two in pairwise(hull)]


def _slope(one: Choice, two: Choice) -> float:
    return (two.damage - one.damage) / (two.bytes - one.bytes)


def allocate(
    table: Mapping[str, list[Choice]], budget: int, *, together: Sequence[Sequence[str]] = ()
) -> dict[str, Choice] | None:
    """Choose a format for every matrix with the least total damage within a budget of bytes.

    A multiple-choice knapsack, solved by dynamic programming over bytes counted in small steps, rounded up so that
    the budget always holds.

    Args:
        table: The choices by matrix name.
        budget: Bytes for all matrices together.
        together: Matrices that files keep as one and that share a format (`Anatomy.stored_together`).

    Returns:
        The choice by matrix name; None when even the smallest choices exceed the budget.

    Example:
        >>> table = {"a": [Choice("small", 4, 9.0), Choice("large", 8, 1.0)],
        ...          "b": [Choice("small", 4, 2.0), Choice("large", 8, 1.0)]}
        >>> {name: choice.format for name, choice in allocate(table, 12).items()}
        {'a': 'large', 'b': 'small'}
    """
    import numpy as np

    if together:
        return _allocate_groups(table, budget, together)
    if smallest_bytes(table) > budget:
        return None
    finest = {name: front[-1] for name, front in table.items()}
    if sum(choice.bytes for choice in finest.values()) <= budget:
        return finest
    unit = max(1.0, budget / BUCKETS)
    size = int(budget / unit) + 1
    best = np.zeros(size)
    picks = []
    for front in table.values():
        options = np.full((len(front), size), np.inf)
        for row, choice in enumerate(front):
            weight = int(np.ceil(choice.bytes / unit))
            if weight < size:
                options[row, weight:] = best[: size - weight] + choice.damage
        pick = options.argmin(0)
        picks.append((pick.astype(np.uint8), front))
        best = options[pick, np.arange(size)]
    if not np.isfinite(best[-1]):
        # Rounding up pushed the tightest mixes over the edge: only the smallest choices remain.
        return {name: front[0] for name, front in table.items()}
    chosen, room = {}, size - 1
    for name, (pick, front) in zip(reversed(list(table)), reversed(picks), strict=True):
        chosen[name] = front[pick[room]]
        room -= int(np.ceil(chosen[name].bytes / unit))
    return {name: chosen[name] for name in table}


def _allocate_groups(
    table: Mapping[str, list[Choice]], budget: int, together: Sequence[Sequence[str]]
) -> dict[str, Choice] | None:
    """Choose for each group of matrices as for one."""
    groups = {members[0]: list(members) for members in together}
    grouped = {name: [name] for name in {*table}.difference(*together)} | groups
    sums = {name: _summed([table[member] for member in grouped[name]]) for name in table if name in grouped}
    found = allocate(sums, budget)
    if found is None:
        return None
    formats_of = {member: found[name].format for name, members in grouped.items() for member in members}
    return {name: next(one for one in front if one.format == formats_of[name]) for name, front in table.items()}
