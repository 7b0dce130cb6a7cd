"""How often a token occurs, or an expert is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.errors import InvalidInput
from smidgen.shrink.prune.criteria import Criterion, Evidence, Needs
from smidgen.shrink.prune.criteria._parts import padded

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model


@dataclass(frozen=True)
class Use(Criterion):
    """How often the token occurs in the user's data, or the router chooses the expert on the text.

    The broader the data the better: what it lacks goes, and other text then takes more tokens. Where no counts
    are given the calibration windows are counted.

    Example:
        >>> import torch
        >>> use(torch.tensor([[2, 0, 2]]), 4).tolist()
        [1.0, 0.0, 2.0, 0.0]
    """

    structures: ClassVar[tuple[str, ...]] = ("vocabulary", "expert")

    def needs(self, structure: str) -> Needs | None:
        """Return what the experts read; tokens are counted without the model."""
        return Needs(("mlp_input",)) if structure == "expert" else None

    def score(self, model: Model, structure: str, evidence: Evidence) -> torch.Tensor:
        """Return the count of every token, ``[vocabulary]``, or of those each expert sees, ``[blocks, experts]``."""
        import torch

        if structure == "expert":
            reads = evidence.figures.reads
            return padded(
                torch.stack([reads[mlp.site("mlp_input")] for mlp in block.mlps]) for block in model.anatomy.blocks
            )
        size = model.anatomy.vocabulary_size
        if evidence.token_use is None:
            return use(evidence.windows, size)
        counts = evidence.token_use
        if counts.shape != (size,) or bool((counts < 0).any()):
            raise InvalidInput(f"The use of tokens must be {size:,} counts, one for each of the model's tokens.")
        return counts.float().cpu()


def use(tokens: torch.Tensor, vocabulary: int) -> torch.Tensor:
    """Count every token id, ``[vocabulary]``."""
    return tokens.cpu().flatten().bincount(minlength=vocabulary).float()
