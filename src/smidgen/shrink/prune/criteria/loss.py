"""How much the output changes when a part is really left out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.progress import Progress, silent, track
from smidgen.shrink.prune.criteria import Criterion, Evidence, Needs
from smidgen.shrink.prune.criteria._chain import Chain, Judge
from smidgen.shrink.prune.criteria._parts import padded
from smidgen.shrink.prune.structures.layer import with_layers

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model

SPARE = 4


@dataclass(frozen=True)
class Loss(Criterion):
    """Mean KL(source ‖ model without the part), in nats: leave one out.

    The slowest criterion and the most honest. Where several blocks go they go one at a time, each time the one
    whose loss hurts least beside those already gone, since damages do not simply add up; tried are only blocks
    of low block influence. Where kinds of blocks alternate every block is left out from the whole model alone, since
    a choice must keep their order. Heads are left out one by one, each from the whole model.

    Attributes:
        candidates: How many blocks of the lowest block influence are tried.
        windows: How many calibration windows every try reads.

    Example:
        >>> import torch
        >>> from smidgen.divergence import kl
        >>> with_it, without = torch.tensor([[0.0, 0.0]]), torch.log(torch.tensor([[0.25, 0.75]]))
        >>> round(float(kl(with_it, without).mean()), 4)
        0.1438
    """

    candidates: int = 12
    windows: int = 4

    structures: ClassVar[tuple[str, ...]] = ("layer", "head")
    comparable: ClassVar[bool] = True

    def needs(self, structure: str) -> Needs | None:
        """Return figures of blocks only, for layers."""
        return Needs() if structure == "layer" else None

    def score(self, model: Model, structure: str, evidence: Evidence) -> torch.Tensor:
        """Return the KL without each block alone, ``[blocks]``, or each head alone, ``[blocks, heads]``."""
        import torch

        chain = Chain(model, evidence.windows[: self.windows])
        judge = Judge(model, chain.final)
        if structure == "head":
            return _heads(chain, judge, evidence.progress)
        tried = track(range(len(chain.inputs)), "leaving layers out", evidence.progress, unit="layers")
        return torch.tensor([judge.divergence(chain.without(place)) for place in tried]).clamp_min(0)

    def choose(self, model: Model, structure: str, keep: int, evidence: Evidence) -> torch.Tensor:
        """Choose what stays; blocks are removed one at a time."""
        import torch

        if structure != "layer" or model.anatomy.layer_kinds:
            return super().choose(model, structure, keep, evidence)
        kept = greedy_layers(
            model,
            evidence.windows[: self.windows],
            len(model.anatomy.blocks) - keep,
            self.candidates,
            influence=evidence.figures.block_influence,
            progress=evidence.progress,
        )
        return torch.tensor(kept)


def greedy_layers(
    model: Model,
    windows: torch.Tensor,
    remove: int,
    candidates: int,
    *,
    influence: torch.Tensor | None = None,
    progress: Progress = silent,
) -> tuple[int, ...]:
    """Remove blocks one at a time, each time the one without which the output changes least.

    Args:
        model: The model; it stays as it was.
        windows: Tokens on which the change is measured, ``[windows, length]``.
        remove: How many blocks go.
        candidates: How many blocks of the lowest influence are tried; at least four more than are to go.
        influence: Block influence, ``[blocks]``; None: measured on the windows.
        progress: Receives reports.

    Returns:
        Indices of the blocks that stay, rising.
    """
    from smidgen.shrink.statistics import collect

    if influence is None:
        influence = collect(model, windows, sites=()).block_influence
    open_ones = influence.argsort(stable=True).tolist()[: max(candidates, remove + SPARE)]
    kept = list(range(len(influence)))
    chain = Chain(model, windows)
    judge = Judge(model, chain.final)
    for number in track(range(remove), "choosing layers", progress, unit="layers"):
        if number:
            chain = Chain(with_layers(model, kept), windows)
        tries = {gone: judge.divergence(chain.without(kept.index(gone))) for gone in open_ones}
        gone = min(tries, key=lambda index: (tries[index], index))
        kept.remove(gone)
        open_ones.remove(gone)
    return tuple(kept)


def _heads(chain: Chain, judge: Judge, progress: Progress) -> torch.Tensor:
    """Return the KL without each head alone, ``[blocks, heads]``."""
    import torch

    rows = []
    for block in track(chain.model.anatomy.blocks, "leaving heads out", progress, unit="layers"):
        found = []
        for head in range(block.query_heads):
            with silenced(chain.model, block.projections["output"].path, head * block.head_size, block.head_size):
                found.append(judge.divergence(chain.again(block.index)))
        rows.append(torch.tensor(found).clamp_min(0))
    return padded(rows)


@contextmanager
def silenced(model: Model, path: str, first: int, count: int) -> Iterator[None]:
    """Let a linear layer read zeros in ``count`` inputs from ``first`` on."""

    def reading(_: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        values = inputs[0].clone()
        values[..., first : first + count] = 0
        return (values, *inputs[1:])

    handle = model.module.get_submodule(path).register_forward_pre_hook(reading)
    try:
        yield
    finally:
        handle.remove()
