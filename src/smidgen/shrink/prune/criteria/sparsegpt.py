"""What a weight's removal costs once the others have taken over what they can."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.shrink.hessian import inverse_factor
from smidgen.shrink.prune.criteria import Criterion, Needs, WeightEvidence

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Sparsegpt(Criterion):
    """w²/U_jj², U being the upper Cholesky factor of H⁻¹ and H = X Xᵀ of the weight's inputs.

    U_jj² is [H⁻¹]_jj of the inputs from j onward: what the removal costs when the columns before are settled and
    those after make up for it. With ``repair`` they do, and scores are taken anew from the updated weights as the
    columns go by. Needs the Hessian of every input. Source: Frantar 2023, arXiv 2301.00774.

    Example:
        >>> import torch
        >>> hessian = torch.diag(torch.tensor([1.0, 9.0]))
        >>> scores = Sparsegpt().score_weights(torch.tensor([[2.0, -1.0]]), WeightEvidence(hessian.diag(), hessian))
        >>> [round(value) for value in scores[0].tolist()]
        [4, 9]
    """

    structures: ClassVar[tuple[str, ...]] = ("weight", "synapse")

    def needs(self, structure: str) -> Needs:
        """Return the Hessians of all sites in the blocks."""
        return Needs(("attention_input", "attention_output", "mlp_input", "mlp_hidden"), hessians=True)

    def score_weights(self, weight: torch.Tensor, evidence: WeightEvidence) -> torch.Tensor:
        """Return the score of every weight."""
        assert evidence.hessian is not None
        return sparsegpt(weight, inverse_factor(evidence.hessian).diag())


def sparsegpt(weight: torch.Tensor, diagonal: torch.Tensor) -> torch.Tensor:
    """Return w_ij²/U_jj² of a matrix ``[out, in]``, ``diagonal`` being U's ``[in]``."""
    return (weight.detach().float() / diagonal.to(weight.device)).square()
