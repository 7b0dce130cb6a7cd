"""The sum of the weights' sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from smidgen.shrink.prune.criteria import Evidence, WeightEvidence
from smidgen.shrink.prune.criteria._parts import Summed, sum_over_parts

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model


@dataclass(frozen=True)
class L1(Summed):
    """Sum of |w| over the part's weights; of a single weight |w|.

    Needs no text, and knows nothing of it: a baseline, and for single weights what is called magnitude pruning.
    Source: Li 2017, arXiv 1608.08710.

    Example:
        >>> import torch
        >>> L1().score_weights(torch.tensor([[3.0, -4.0]]), None).tolist()
        [[3.0, 4.0]]
    """

    def score(self, model: Model, structure: str, evidence: Evidence) -> torch.Tensor:
        """Return the sum of every part."""
        return sum_over_parts(model, structure, lambda name: model.weight(name).detach().float().abs())

    def score_weights(self, weight: torch.Tensor, evidence: WeightEvidence | None) -> torch.Tensor:
        """Return |w|."""
        return weight.detach().float().abs()
