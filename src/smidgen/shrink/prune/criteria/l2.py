"""The size of the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from smidgen.shrink.prune.criteria import NO_PART, Evidence, WeightEvidence
from smidgen.shrink.prune.criteria._parts import Summed, sum_over_parts

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model


@dataclass(frozen=True)
class L2(Summed):
    """Root of the sum of w² over the part's weights; of a single weight w², which ranks as |w| does.

    Which weights belong to a part: `sum_over_parts`. Needs no text, and knows nothing of it: a baseline.
    Source: Li 2017, arXiv 1608.08710.

    Example:
        >>> import torch
        >>> L2().score_weights(torch.tensor([[3.0, -4.0]]), None).tolist()
        [[9.0, 16.0]]
    """

    def score(self, model: Model, structure: str, evidence: Evidence) -> torch.Tensor:
        """Return the norm of every part."""
        sums = sum_over_parts(model, structure, lambda name: model.weight(name).detach().float().square())
        return sums.clamp_min(0).sqrt().where(sums >= 0, NO_PART)

    def score_weights(self, weight: torch.Tensor, evidence: WeightEvidence | None) -> torch.Tensor:
        """Return w²."""
        return weight.detach().float().square()
