"""What is summed: losses, their weights and how these change over the steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from smidgen.errors import InvalidInput
from smidgen.shrink.distill import losses
from smidgen.shrink.distill.losses import GradientLoss, Loss, OutputLoss, PartLoss
from smidgen.shrink.distill.temperature import Temperature


@dataclass(frozen=True)
class Term:
    """One loss with its weight.

    Attributes:
        loss: The loss.
        weight: Weight at the first step.
        weight_end: Weight at the last step, reached in a straight line; None stays.

    Example:
        >>> term = Term(losses.build("hidden", {}), 1.0, 0.0)
        >>> [term.at(step, 3) for step in range(3)]
        [1.0, 0.5, 0.0]
    """

    loss: Loss
    weight: float = 1.0
    weight_end: float | None = None

    def __post_init__(self) -> None:
        last = self.weight if self.weight_end is None else self.weight_end
        if not all(weight >= 0 and math.isfinite(weight) for weight in (self.weight, last)) or not self.weight + last:
            raise InvalidInput(f"Every weight of a loss must be above 0, not {self.weight:g}.")

    def at(self, step: int, steps: int) -> float:
        """Return the weight of a step counted from 0."""
        if self.weight_end is None:
            return self.weight
        return self.weight + (self.weight_end - self.weight) * min(1.0, step / max(1, steps - 1))


@dataclass(frozen=True)
class Terms:
    """All that is summed.

    Attributes:
        terms: Each loss with its weight.
        temperature: Per step.
        steps: Steps in all.
    """

    terms: tuple[Term, ...]
    temperature: Temperature = field(default_factory=Temperature)
    steps: int = 1

    @property
    def asks(self) -> frozenset[str]:
        """What the teacher must give."""
        return frozenset(term.loss.asks for term in self.terms) - {"nothing"}

    @property
    def reads_maps(self) -> bool:
        """Whether attention maps must be seen."""
        return any(term.loss.reads_maps for term in self.terms)

    def weights(self, step: int | None) -> Weights:
        """Return the losses with their weights at a step, sorted by kind; None: those of the last step."""
        number = self.steps - 1 if step is None else step
        pairs = [(term.loss, term.at(number, self.steps)) for term in self.terms]
        return Weights(
            [(loss, weight) for loss, weight in pairs if isinstance(loss, OutputLoss) and weight],
            [(loss, weight) for loss, weight in pairs if isinstance(loss, PartLoss)],
            [(loss, weight) for loss, weight in pairs if isinstance(loss, GradientLoss) and weight],
        )


@dataclass(frozen=True)
class Weights:
    """Losses with their weights at one step, by kind.

    Attributes:
        outputs: Losses of next-token distributions.
        parts: Losses of parts, those of weight 0 included, in the order of the terms.
        gradients: Losses of slopes.
    """

    outputs: list[tuple[OutputLoss, float]]
    parts: list[tuple[PartLoss, float]]
    gradients: list[tuple[GradientLoss, float]]


def read(given: Mapping[str, Any]) -> tuple[Term, ...]:
    """Read losses as recipes write them: ``{"hidden": 0.1}``, or with ``weight``, ``weight_end`` and own options.

    Raises:
        ReferenceNotFound: There is no such loss or option.
        InvalidInput: There is no loss, or a weight is not above 0.

    Example:
        >>> term, = read({"hidden": {"weight": 0.1, "measure": "mse"}})
        >>> term.weight, term.loss
        (0.1, Hidden(measure='mse'))
    """
    if not given:
        raise InvalidInput("Distillation needs at least one loss.", remedy="Say for example soft_output: 1.")
    found = []
    for name, value in given.items():
        options = dict(value) if isinstance(value, Mapping) else {"weight": value}
        weights = {key: _number(name, options.pop(key)) for key in ("weight", "weight_end") if key in options}
        found.append(Term(losses.build(name, options), **weights))
    return tuple(found)


def _number(name: str, value: Any) -> Any:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise InvalidInput(f"The weight of the loss {name} is {value!r}, which is no number.")
    return value if value is None else float(value)
