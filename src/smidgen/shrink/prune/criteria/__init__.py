"""What goes first: one file per way of scoring the parts of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from smidgen import registry
from smidgen.progress import Progress, silent
from smidgen.shrink.prune import structures

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model
    from smidgen.shrink.statistics import Statistics

NO_PART = -1.0
"""The score in places where a block has fewer parts than others: below every real one."""


@dataclass(frozen=True)
class Needs:
    """What a criterion reads of the calibration text.

    Attributes:
        roles: Roles of the sites whose figures it reads (``mlp_hidden``); none for figures of blocks only.
        hessians: Whether it reads their Hessians.
        preactivations: Whether it reads what goes into the activation function.
        gradients: Whether it reads the gradient of every weight that belongs to the parts.
    """

    roles: tuple[str, ...] = ()
    hessians: bool = False
    preactivations: bool = False
    gradients: bool = False


@dataclass(frozen=True)
class Evidence:
    """What a criterion may look at besides the weights.

    Attributes:
        windows: Calibration tokens, int64 ``[windows, length]``.
        statistics: Figures collected on them; None where the criterion needs none.
        token_use: How often the user's data holds each token, ``[vocabulary]``; None: counted in the windows.
        progress: Receives reports.
    """

    windows: torch.Tensor
    statistics: Statistics | None = None
    token_use: torch.Tensor | None = None
    progress: Progress = silent

    @property
    def figures(self) -> Statistics:
        """The statistics, which a criterion that needs some is always given."""
        assert self.statistics is not None
        return self.statistics


@dataclass(frozen=True)
class WeightEvidence:
    """What a criterion may look at when it scores the single weights of one matrix.

    Attributes:
        second_moment: Mean x² of every input, ``[in]``.
        hessian: X Xᵀ / tokens, ``[in, in]``; None unless the criterion needs it.
        gradient: ∂loss/∂w, ``[out, in]``; None unless the criterion needs it.
    """

    second_moment: torch.Tensor
    hessian: torch.Tensor | None = None
    gradient: torch.Tensor | None = None


class Criterion:
    """A way of scoring; what scores low goes first.

    Attributes:
        structures: The kinds of part it can score.
        comparable: Whether scores of different blocks are on one scale, so that an uneven cut takes them as they
            are; others are first centred and scaled block by block.
    """

    structures: ClassVar[tuple[str, ...]]
    comparable: ClassVar[bool] = False

    def needs(self, structure: str) -> Needs | None:
        """Return what it reads of the text to score these parts; None: nothing."""
        return None

    def score(self, model: Model, structure: str, evidence: Evidence) -> torch.Tensor:
        """Score every part, finite and not negative, float32 on the CPU.

        Args:
            model: The model.
            structure: Kind of part, one of `structures`.
            evidence: What there is to go by.

        Returns:
            ``[blocks]`` for layers, ``[blocks, heads]`` for heads, ``[blocks, experts]`` for experts, ``[MLPs,
            neurons]`` for neurons (one row for each block, or each expert), ``[hidden]`` for the width,
            ``[vocabulary]`` for tokens. Blocks with fewer parts than others are filled up with
            `NO_PART`.
        """
        raise TypeError(f"{type(self).__name__} does not score parts")

    def score_weights(self, weight: torch.Tensor, evidence: WeightEvidence) -> torch.Tensor:
        """Score every single weight of one matrix ``[out, in]``, finite and not negative, in its shape."""
        raise TypeError(f"{type(self).__name__} does not score single weights")

    def choose(self, model: Model, structure: str, keep: int, evidence: Evidence) -> torch.Tensor:
        """Choose what stays, int64 indices in rising order along the last axis, by the scores."""
        return structures.find(structure).select(model, self.score(model, structure, evidence), keep)


def names() -> tuple[str, ...]:
    """List every criterion.

    Example:
        >>> "block_influence" in names()
        True
    """
    return registry.names(__name__)


def find(name: str) -> Criterion:
    """Return a criterion by its name.

    Raises:
        ReferenceNotFound: There is no such criterion.
    """
    criterion: Criterion = registry.find(__name__, name)()
    return criterion


def names_for(structure: str) -> tuple[str, ...]:
    """List the criteria that can score a kind of part.

    Example:
        >>> names_for("synapse")
        ('l1', 'l2', 'sparsegpt', 'taylor', 'wanda')
    """
    return tuple(name for name in names() if structure in find(name).structures)
