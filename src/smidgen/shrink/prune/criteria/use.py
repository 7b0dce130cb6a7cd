"""How often a token occurs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen.errors import InvalidInput
from smidgen.shrink.prune.criteria import Criterion, Evidence

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model


@dataclass(frozen=True)
class Use(Criterion):
    """How often the token occurs in the user's data.

    The broader the data the better: what it lacks goes, and other text then takes more tokens. Where no counts
    are given the calibration windows are counted.

    Example:
        >>> import torch
        >>> use(torch.tensor([[2, 0, 2]]), 4).tolist()
        [1.0, 0.0, 2.0, 0.0]
    """

    structures: ClassVar[tuple[str, ...]] = ("vocabulary",)

    def score(self, model: Model, structure: str, evidence: Evidence) -> torch.Tensor:
        """Return the count of every token, ``[vocabulary]``."""
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
