"""How much the output changes when a part is really left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.progress import Progress, silent, track
from smidgen.shrink.prune.criteria import Criterion, Evidence, Needs
from smidgen.shrink.prune.criteria._parts import padded
from smidgen.shrink.prune.structures.layer import with_layers

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model

CHUNK = 256
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

        windows, every = evidence.windows[: self.windows], range(len(model.anatomy.blocks))
        source = final_hidden(model, windows)
        if structure == "head":
            return _heads(model, windows, source, evidence.progress)
        tried = track(every, "leaving layers out", evidence.progress, unit="layers")
        divergences = [_without(model, windows, source, [i for i in every if i != gone]) for gone in tried]
        return torch.tensor(divergences).clamp_min(0)

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
    source = final_hidden(model, windows)
    kept = list(range(len(influence)))
    for _ in track(range(remove), "choosing layers", progress, unit="layers"):
        tries = {
            gone: _without(model, windows, source, [index for index in kept if index != gone]) for gone in open_ones
        }
        gone = min(tries, key=lambda index: (tries[index], index))
        kept.remove(gone)
        open_ones.remove(gone)
    return tuple(kept)


def final_hidden(model: Model, windows: torch.Tensor) -> torch.Tensor:
    """Return what the head reads, ``[tokens, hidden]``; logits would take hundreds of times the memory."""
    import torch

    from smidgen.shrink.precision import autocast
    from smidgen.shrink.statistics import evaluating

    with torch.no_grad(), evaluating(model), autocast(model.device.type):
        states = [
            model.module.base_model(input_ids=window[None].to(model.device), use_cache=False).last_hidden_state[0]
            for window in windows
        ]
    return torch.cat(states)


def mean_kl(model: Model, source: torch.Tensor, result: torch.Tensor) -> float:
    """Return the mean KL of two hidden states seen through the model's head, in nats.

    Args:
        model: Whose head is used.
        source: ``[tokens, hidden]``.
        result: Same shape.
    """
    import torch

    from smidgen import divergence
    from smidgen.shrink.precision import autocast

    anatomy, total = model.anatomy, 0.0
    head = model.module.get_submodule(anatomy.head)
    with torch.no_grad(), autocast(model.device.type):
        for first in range(0, len(source), CHUNK):
            ours, theirs = (anatomy.logits(head(states[first : first + CHUNK])) for states in (source, result))
            total += float(divergence.kl(ours, theirs).sum(dtype=torch.float64))
    return total / len(source)


def _heads(model: Model, windows: torch.Tensor, source: torch.Tensor, progress: Progress) -> torch.Tensor:
    """Return the KL without each head alone, ``[blocks, heads]``."""
    import torch

    rows = []
    for block in track(model.anatomy.blocks, "leaving heads out", progress, unit="layers"):
        found = []
        for head in range(block.query_heads):
            with silenced(model, block.projections["output"].path, head * block.head_size, block.head_size):
                found.append(mean_kl(model, source, final_hidden(model, windows)))
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


def _without(model: Model, windows: torch.Tensor, source: torch.Tensor, kept: Sequence[int]) -> float:
    return mean_kl(model, source, final_hidden(with_layers(model, kept), windows))
