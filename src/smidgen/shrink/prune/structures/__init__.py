"""What can be removed from a model, one file per kind of part."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from smidgen import registry

if TYPE_CHECKING:
    import torch

    from smidgen.models.anatomy import Anatomy
    from smidgen.models.model import Model


class Structure:
    """A kind of part that can go.

    Attributes:
        unit: What ``keep`` counts, in words for a person.
        listed: Whether one list of indices says what stays, so that a recipe can name it.
    """

    unit: ClassVar[str]
    listed: ClassVar[bool] = True

    def size(self, anatomy: Anatomy) -> int:
        """Count the parts that a model has now."""
        raise TypeError(f"{type(self).__name__} does not say how many parts there are")

    def step(self, anatomy: Anatomy) -> int:
        """Return what a count must be a multiple of for the fast paths."""
        return 1

    def least(self, model: Model) -> int:
        """Return the fewest parts that can stay."""
        return self.step(model.anatomy)

    def select(self, model: Model, scores: torch.Tensor, keep: int) -> torch.Tensor:
        """Choose what stays: the parts of the highest scores, int64 indices in rising order along the last axis."""
        indices: torch.Tensor = scores.topk(keep, dim=-1).indices.sort(dim=-1).values
        return indices

    def check(self, model: Model, kept: torch.Tensor) -> None:
        """Refuse a list of parts that cannot stay alone; raises InvalidInput."""

    def remove(self, model: Model, kept: torch.Tensor) -> Model:
        """Build a new model of the kept parts; shares no weight with the one given."""
        raise TypeError(f"{type(self).__name__} cannot be removed")

    def parameters_saved(self, model: Model, keep: int) -> int:
        """Count the weights that go when ``keep`` parts stay."""
        raise TypeError(f"{type(self).__name__} does not say what it saves")


def names() -> tuple[str, ...]:
    """List every kind of part.

    Example:
        >>> names()
        ('layer', 'neuron', 'vocabulary')
    """
    return registry.names(__name__)


def find(name: str) -> Structure:
    """Return a kind of part by its name.

    Raises:
        ReferenceNotFound: There is no such kind.
    """
    structure: Structure = registry.find(__name__, name)()
    return structure
