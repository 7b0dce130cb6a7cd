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


class Criterion:
    """A way of scoring; what scores low goes first.

    Attributes:
        structures: The kinds of part it can score.
        needs: Roles of the sites whose statistics it reads (``mlp_hidden``); empty for figures of blocks only;
            None where it needs no statistics.
    """

    structures: ClassVar[tuple[str, ...]]
    needs: ClassVar[tuple[str, ...] | None] = None

    def score(self, model: Model, structure: str, evidence: Evidence) -> torch.Tensor:
        """Score every part, finite and not negative, float32 on the CPU.

        Args:
            model: The model.
            structure: Kind of part, one of `structures`.
            evidence: What there is to go by.

        Returns:
            ``[blocks]`` for layers, ``[blocks, neurons]`` for neurons, ``[vocabulary]`` for tokens.
        """
        raise TypeError(f"{type(self).__name__} does not score")

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
        >>> names_for("neuron")
        ('activation', 'l2')
    """
    return tuple(name for name in names() if structure in find(name).structures)
