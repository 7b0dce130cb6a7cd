"""Local search over mixes of formats: a swap is kept when the measured output, not the predicted one, comes closer.

The knapsack of `allocate` trusts that damages add up. Near its answer lie mixes of the same size that may do better:
one matrix goes up to its next larger format, another down to pay for it, and the divergence on text decides. Matrices
are stored one by one with the source's own inputs, so that each is stored once in each format it is tried in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from smidgen import divergence, formats, heap
from smidgen.progress import Event, Progress, silent
from smidgen.shrink.precision import autocast
from smidgen.shrink.quantize.sensitivity import costs_of

if TYPE_CHECKING:
    import numpy
    import torch

    from smidgen.models.model import Model
    from smidgen.shrink.quantize.allocate import Choice
    from smidgen.shrink.quantize.sensitivity import Sensitivity
    from smidgen.shrink.quantize.solvers import Solver

PAYERS = 8
"""How many ways of paying for a larger format are drawn from, the least predicted harm first."""


class Trial:
    """Measures what mixes of formats do to a model's output.

    Args:
        model: The model to be quantised; it is not changed.
        sensitivity: What `probe` found of it.
        windows: Token ids to measure on, int64 ``[windows, length]``; best not those that `sensitivity` saw.
        solver: How single matrices are stored.
    """

    def __init__(self, model: Model, sensitivity: Sensitivity, windows: torch.Tensor, solver: Solver) -> None:
        self.model, self.sensitivity, self.windows, self.solver = model, sensitivity, windows, solver
        self._stored: dict[tuple[str, str], torch.Tensor] = {}
        self._work, self._inside = model.clone(), dict.fromkeys(model.anatomy.matrices(), "")
        self._reference = self._logits(model)

    def divergence(self, mix: Mapping[str, str]) -> float:
        """Return the mean KL divergence of source ‖ mix in nats per token.

        Args:
            mix: Format of every matrix by name; one that is not named stays as it is.
        """
        import torch

        for name, inside in self._inside.items():
            wanted = mix.get(name, "")
            if wanted == inside:
                continue
            own = self.model.weight(name).detach()
            values = formats.find(wanted).unpack(self.stored(name, wanted)) if wanted else own
            with torch.no_grad():
                self._work.weight(name).copy_(values)
            self._inside[name] = wanted
        return float(divergence.kl(self._reference, self._logits(self._work)).mean())

    def stored(self, name: str, wanted: str) -> torch.Tensor:
        """Return a matrix's bytes in a format, worked out once."""
        if (name, wanted) not in self._stored:
            hessian, _ = costs_of(self.model, self.sensitivity, name)
            weight = self.model.weight(name).detach().float()
            original = self.model.original(name)
            if original is not None and original.format == wanted:
                packed = original.data
            else:
                packed = self.solver.store(weight, hessian, formats.find(wanted))
            self._stored[name, wanted] = packed
        return self._stored[name, wanted]

    def _logits(self, model: Model) -> torch.Tensor:
        import torch

        first = self.windows.shape[1] // 2
        with torch.no_grad(), autocast():
            return torch.cat(
                [
                    model.module(window, use_cache=False).logits[0, first:].bfloat16()
                    for window in torch.split(self.windows, 1)
                ]
            )


@dataclass(frozen=True)
class Found:
    """What a search ended with.

    Attributes:
        mix: The choice by matrix name.
        before: Measured divergence of the mix it began with.
        after: Measured divergence of this one.
        tried: Swaps that were measured.
        kept: Swaps that were kept.
    """

    mix: dict[str, Choice]
    before: float
    after: float
    tried: int
    kept: int


@heap.reused()
def improve(
    table: Mapping[str, Sequence[Choice]],
    mix: Mapping[str, Choice],
    budget: int,
    measure: Callable[[Mapping[str, str]], float],
    *,
    trials: int,
    seed: int = 0,
    progress: Progress = silent,
) -> Found:
    """Swap formats pairwise and keep what measures better; the size never exceeds the budget.

    Args:
        table: Choices by matrix name, smallest first; a matrix that has none keeps its format.
        mix: The mix to begin with.
        budget: Bytes for all matrices together.
        measure: Returns the divergence of a mix of format names.
        trials: Swaps to measure at most.
        seed: Of the swaps drawn.
        progress: Receives one event per swap.

    Example:
        >>> from smidgen.shrink.quantize.allocate import Choice
        >>> front = [Choice("small", 4, 9.0), Choice("large", 8, 1.0)]
        >>> mix = {"a": front[1], "b": front[0]}
        >>> found = improve({"a": front, "b": front}, mix, 12, lambda names: names["b"] == "small", trials=4)
        >>> {name: choice.format for name, choice in found.mix.items()}, found.kept
        ({'a': 'small', 'b': 'large'}, 1)
    """
    import numpy

    generator = numpy.random.default_rng(seed)
    current = Found(dict(mix), 0.0, 0.0, 0, 0)
    before = best = measure({name: choice.format for name, choice in mix.items()})
    refused: set[tuple[tuple[str, str], ...]] = set()
    for number in range(trials):
        swap = _swap(table, current.mix, budget, generator, refused)
        if swap is None:
            break
        candidate = current.mix | swap
        reached = measure({name: choice.format for name, choice in candidate.items()})
        kept = reached < best
        if kept:
            best, refused = reached, set()
            current = replace(current, mix=candidate, kept=current.kept + 1)
        else:
            refused.add(_key(swap))
        current = replace(current, tried=number + 1)
        progress(Event("searching for a better mix", number + 1, trials, "swaps", note=f"KL {best:.4f}"))
    return replace(current, before=before, after=best)


def _key(swap: Mapping[str, Choice]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, choice.format) for name, choice in swap.items()))


def _swap(
    table: Mapping[str, Sequence[Choice]],
    mix: Mapping[str, Choice],
    budget: int,
    generator: numpy.random.Generator,
    refused: set[tuple[tuple[str, str], ...]],
) -> dict[str, Choice] | None:
    """Draw a matrix that goes up one format and, where its bytes are not free, one that pays; None: all were tried."""
    room = budget - sum(choice.bytes for choice in mix.values())
    rises = []
    for name, choice in mix.items():
        larger = next((each for each in table.get(name, ()) if each.bytes > choice.bytes), None)
        if larger is not None:
            rises.append((name, larger))
    for index in generator.permutation(len(rises)):
        name, larger = rises[index]
        missing = larger.bytes - mix[name].bytes - room
        if missing <= 0:
            swaps = [{name: larger}]
        else:
            payers = _payers(table, mix, name, missing)
            swaps = [{name: larger, payer: smaller} for payer, smaller in payers[:PAYERS]]
        fresh = [swap for swap in swaps if _key(swap) not in refused]
        if fresh:
            return fresh[int(generator.integers(len(fresh)))]
    return None


def _payers(
    table: Mapping[str, Sequence[Choice]], mix: Mapping[str, Choice], spared: str, missing: int
) -> list[tuple[str, Choice]]:
    """List the matrices that can give up so many bytes, the least predicted harm first."""
    found = []
    for name, choice in mix.items():
        enough = [each for each in table.get(name, ()) if choice.bytes - each.bytes >= missing]
        if name != spared and enough:
            found.append((enough[-1].damage - choice.damage, name, enough[-1]))
    return [(name, smaller) for _, name, smaller in sorted(found, key=lambda each: each[:2])]
