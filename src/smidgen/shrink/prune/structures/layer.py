"""Whole decoder blocks."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.errors import InvalidInput
from smidgen.models import uneven
from smidgen.shrink.prune.structures import Structure
from smidgen.shrink.prune.structures._rebuild import copied_state, rebuild

if TYPE_CHECKING:
    import torch

    from smidgen.models.anatomy import Anatomy
    from smidgen.models.model import Model

PER_LAYER_LISTS = ("layer_types",)
"""Entries of a configuration that hold one value per block."""


@dataclass(frozen=True)
class Layer(Structure):
    """Decoder blocks: ``keep`` says how many stay.

    The residual stream passes over a removed block unchanged. Size, memory and time all fall by the block's
    share. Use it where the model is deep and text can heal it afterwards. Source: ShortGPT, arXiv 2403.03853.

    Example:
        >>> import torch
        >>> Layer().select(None, torch.tensor([0.9, 0.1, 0.2, 0.8]), keep=3).tolist()
        [0, 2, 3]
    """

    unit: ClassVar[str] = "layers"
    criterion: ClassVar[str] = "loss"

    def size(self, anatomy: Anatomy) -> int:
        """Count the blocks."""
        return len(anatomy.blocks)

    def select(self, model: Model, scores: torch.Tensor, keep: int) -> torch.Tensor:
        """Choose the blocks of the highest scores, where kinds of blocks alternate those that keep their order."""
        if model is None or not model.anatomy.layer_kinds:
            return super().select(model, scores, keep)
        import torch

        return torch.tensor(best_in_order(model.anatomy, scores.tolist(), keep))

    def check(self, model: Model, kept: torch.Tensor) -> None:
        """Refuse blocks that do not follow each other as the model's kinds of blocks must."""
        anatomy = model.anatomy
        if not anatomy.keeps_order(kept.tolist()):
            raise InvalidInput(
                f"The layers {kept.tolist()} of this model cannot stay together: {', '.join(anatomy.layer_kinds)} must "
                "follow each other.",
                remedy="Leave 'chosen' out, or choose layers that keep that order.",
            )

    def remove(self, model: Model, kept: torch.Tensor) -> Model:
        """Build a model of the blocks with these indices, renumbered; int64 ``[keep]``, rising."""
        return with_layers(model, [int(index) for index in kept], state=copied_state(model))

    def parameters_saved(self, model: Model, keep: int) -> int:
        """Count the weights of the blocks that go."""
        block = model.module.get_submodule(model.anatomy.blocks[0].path)  # where blocks differ, an estimate
        one: int = sum(parameter.numel() for parameter in block.parameters())
        return (self.size(model.anatomy) - keep) * one


def best_in_order(anatomy: Anatomy, scores: Sequence[float], keep: int) -> list[int]:
    """Choose the blocks of the largest summed score that follow each other as the kinds of blocks must.

    Exact, by dynamic programming: the best choice of n among the first blocks ends in one of the right kind, or is
    one among the blocks before it.

    Args:
        anatomy: Says which kinds of blocks follow each other.
        scores: One for each block.
        keep: How many stay.

    Returns:
        Indices, rising.
    """
    best: list[tuple[float, tuple[int, ...]] | None] = [(0.0, ()), *[None] * keep]
    for index, score in enumerate(scores):
        for count in range(min(keep, index + 1), 0, -1):
            before, now = best[count - 1], best[count]
            if before is None or anatomy.kind(index) != anatomy.kind(count - 1):
                continue
            if now is None or before[0] + score > now[0]:
                best[count] = (before[0] + score, (*before[1], index))
    chosen = best[keep]
    assert chosen is not None  # the first blocks always keep their order
    return list(chosen[1])


def with_layers(model: Model, kept: Sequence[int], *, state: dict[str, torch.Tensor] | None = None) -> Model:
    """Build a model of some of the blocks, in the order given.

    Args:
        model: Where they come from.
        kept: Present indices of the blocks.
        state: The weights to build of; None: the model's own, shared and not copied, for looking only.
    """
    config = copy.deepcopy(model.config)
    for name in PER_LAYER_LISTS:
        values = getattr(config, name, None)
        if values is not None:
            setattr(config, name, [values[index] for index in kept])
    blocks = uneven.counts(config)
    config.num_hidden_layers = len(kept)
    if blocks is not None:
        config = uneven.with_counts(config, [blocks[index] for index in kept])
    before, after = model.anatomy, model.family.anatomy(config)
    weights = state if state is not None else model.module.state_dict()
    paths = {before.blocks[old].path: after.blocks[new].path for new, old in enumerate(kept)}
    return replace(
        model,
        module=rebuild(model, config, _renamed(weights, f"{before.layers}.", paths)),
        lineage=model.lineage.without_layers(tuple(kept)),
        packed=_renamed(model.packed, f"{before.layers}.", paths),
    )


def _renamed(values: Any, layers: str, paths: dict[str, str]) -> dict[str, Any]:
    """Move entries to their block's new path; entries of blocks that go are left out."""
    result = {}
    for name, value in values.items():
        if not name.startswith(layers):
            result[name] = value
            continue
        index, _, rest = name.removeprefix(layers).partition(".")
        path = paths.get(f"{layers}{index}")
        if path is not None:
            result[f"{path}.{rest}"] = value
    return result
