"""How far two vectors lie apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smidgen.errors import ReferenceNotFound

if TYPE_CHECKING:
    import torch

MEASURES = ("cosine", "mse")


def require(measure: str) -> None:
    """Refuse a measure that does not exist."""
    if measure not in MEASURES:
        raise ReferenceNotFound.among("measure", measure, MEASURES)


def apart(student: torch.Tensor, teacher: torch.Tensor, measure: str) -> torch.Tensor:
    """Return 1 − cosine, or the mean square of the difference, over the last axis."""
    import torch

    if measure == "mse":
        return (student - teacher).square().mean(-1)
    return 1 - torch.cosine_similarity(student, teacher, dim=-1)
