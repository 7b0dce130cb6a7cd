"""How much a block turns the residual stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.shrink.prune.criteria import Criterion, Evidence, Needs

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model


@dataclass(frozen=True)
class BlockInfluence(Criterion):
    """1 − cos(block input, block output), mean over tokens; between 0 and 2.

    A block that hardly turns the residual stream is missed least. One forward pass over the calibration text;
    blind to how the damage of several removed blocks adds up, which ``loss`` measures.
    Source: ShortGPT, arXiv 2403.03853.

    Example:
        >>> import torch
        >>> round(float(block_influence(torch.tensor([[3.0, 0.0]]), torch.tensor([[3.0, 4.0]]))), 4)
        0.4
    """

    structures: ClassVar[tuple[str, ...]] = ("layer",)

    def needs(self, structure: str) -> Needs:
        """Return figures of blocks only."""
        return Needs()

    def score(self, model: Model, structure: str, evidence: Evidence) -> torch.Tensor:
        """Return the influence of every block, ``[blocks]``."""
        return evidence.figures.block_influence


def block_influence(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Return 1 − mean cosine of a block's input and output, ``[tokens, hidden]`` each."""
    import torch

    return 1 - torch.cosine_similarity(before, after, dim=-1).mean()
