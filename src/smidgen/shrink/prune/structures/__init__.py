"""What can be removed from a model, one file per kind of part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen import registry

if TYPE_CHECKING:
    import torch

    from smidgen.models.anatomy import Anatomy, Block
    from smidgen.models.model import Model
    from smidgen.shrink.prune.repair import Reader
    from smidgen.shrink.statistics import Statistics


class Structure:
    """A kind of part that can go.

    Attributes:
        unit: What ``keep`` counts, in words for a person.
        criterion: What goes first where nobody says.
        listed: Whether one list of indices says what stays, so that a recipe can name it.
        iterative: Whether it can go in several rounds, scored anew before each.
        readers: Roles of the sites whose matrices read such a part, so that repair can update them.
    """

    unit: ClassVar[str]
    criterion: ClassVar[str]
    listed: ClassVar[bool] = True
    iterative: ClassVar[bool] = True
    readers: ClassVar[tuple[str, ...]] = ()

    @property
    def watches(self) -> tuple[str, ...]:
        """Roles of the sites whose figures `adjusted` goes by, besides what repair reads."""
        return ()

    def size(self, anatomy: Anatomy) -> int:
        """Count the parts that a model has now; of blocks that differ the largest counts."""
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

    def remove(self, model: Model, kept: Any) -> Model:
        """Build a new model of the kept parts; shares no weight with the one given."""
        raise TypeError(f"{type(self).__name__} cannot be removed")

    def read_by(self, model: Model, kept: Any) -> dict[str, Reader]:
        """Return the matrices that read what goes, by the weight's name, and which of their inputs stay."""
        return {}

    def adjusted(self, model: Model, pruned: Model, kept: Any, statistics: Statistics) -> Model:
        """Return the pruned model with whatever else repair sets right besides matrices (the scale of norms)."""
        return pruned

    def parameters_saved(self, model: Model, keep: int) -> int:
        """Count the weights that go when ``keep`` parts stay."""
        raise TypeError(f"{type(self).__name__} does not say what it saves")


class BlockStructure(Structure):
    """A kind of part that every block has some of, so that blocks may keep different counts."""

    listed: ClassVar[bool] = False

    def present(self, block: Block) -> int:
        """Count the parts of one block."""
        raise TypeError(f"{type(self).__name__} does not count its parts")

    def units(self, row: torch.Tensor, block: Block, step: int) -> list[torch.Tensor]:
        """Divide a block's parts into sets that go or stay together, the highest scores first.

        Args:
            row: The block's scores, ``[parts]``.
            block: The block.
            step: How many parts a set has.
        """
        order = row.argsort(descending=True, stable=True)
        return [order[first : first + step] for first in range(0, len(order), step)]

    def owners(self, anatomy: Anatomy) -> list[Block]:
        """Return the block of every row of scores."""
        return list(anatomy.blocks)

    def require_uneven(self, anatomy: Anatomy) -> None:
        """Refuse models whose blocks cannot keep different counts; raises InvalidInput."""

    def fewest(self, block: Block) -> int:
        """Return how many parts this block must keep in an uneven cut."""
        return 0

    def size(self, anatomy: Anatomy) -> int:
        """Count the parts of the block that has most."""
        return max(self.present(block) for block in anatomy.blocks)

    def select(self, model: Model, scores: torch.Tensor, keep: int) -> torch.Tensor:
        """Choose in every block the ``keep`` parts of the highest scores, int64 ``[blocks, keep]``, rising."""
        import torch

        return torch.stack(self.select_each(model, scores, [keep] * len(self.owners(model.anatomy))))

    def select_each(self, model: Model, scores: torch.Tensor, keep: Sequence[int]) -> list[torch.Tensor]:
        """Choose in every block as many parts as it is to keep, int64, rising."""
        import torch

        anatomy, chosen = model.anatomy, []
        step = self.step(anatomy)
        for block, row, count in zip(self.owners(anatomy), scores, keep, strict=True):
            units = self.units(row[: self.present(block)], block, step)
            flat = torch.cat([*units, torch.zeros(0, dtype=torch.long)])
            chosen.append(flat[:count].sort().values)
        return chosen


class WeightStructure(Structure):
    """Single weights that become zero while every matrix keeps its shape."""

    listed: ClassVar[bool] = False
    unit: ClassVar[str] = "weights"

    def sparsity(self, asked: float) -> float:
        """Return the share of a matrix's weights that goes, where such a share was asked for."""
        return asked

    def group(self) -> int:
        """Return how many consecutive columns are decided together."""
        raise TypeError(f"{type(self).__name__} does not say what is decided together")

    def check_columns(self, columns: int) -> None:
        """Refuse a matrix with rows that the pattern does not divide; raises InvalidInput."""

    def stays(self, scores: torch.Tensor, sparsity: float, first: int = 0) -> torch.Tensor:
        """Say which weights of some columns stay, bool in the scores' shape.

        Args:
            scores: Scores of the columns, ``[out, width]``.
            sparsity: Share that goes.
            first: Index of the first of these columns in the matrix.
        """
        raise TypeError(f"{type(self).__name__} does not choose weights")

    def size(self, anatomy: Anatomy) -> int:
        """Count the matrices of the blocks."""
        return sum(len(block.projections) for block in anatomy.blocks)

    def parameters_saved(self, model: Model, keep: int) -> int:
        """Return 0: zeros take as much room as other weights until they are stored sparse."""
        return 0


def names() -> tuple[str, ...]:
    """List every kind of part.

    Example:
        >>> names()
        ('expert', 'head', 'layer', 'neuron', 'synapse', 'vocabulary', 'weight', 'width')
    """
    return registry.names(__name__)


def find(name: str, **fields: Any) -> Structure:
    """Return a kind of part by its name.

    Args:
        name: The name.
        **fields: Its own fields, as ``whole_groups`` of ``head``.

    Raises:
        ReferenceNotFound: There is no such kind.
    """
    structure: Structure = registry.find(__name__, name)(**fields)
    return structure
