"""Neurons of the MLPs' hidden layers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.errors import InvalidInput
from smidgen.models.uneven import Counts, with_counts
from smidgen.shrink.prune.repair import Reader
from smidgen.shrink.prune.structures import BlockStructure
from smidgen.shrink.prune.structures._cut import Cut

if TYPE_CHECKING:
    from smidgen.models.anatomy import Anatomy, Block, Mlp
    from smidgen.models.model import Model

READING = ("gate", "up")
K_QUANT_BLOCK, BLOCK = 256, 32


@dataclass(frozen=True)
class Neuron(BlockStructure):
    """Neurons of every block's MLP: ``keep`` says how many stay in each block.

    A neuron is a row of gate and up and the matching column of down. In an even cut every block keeps the same
    count, chosen by its own ranking, so that the result is an ordinary model; in an uneven one ``keep`` is the
    mean, and a block may lose its MLP altogether. Counts are multiples of 256 where that leaves any (llama.cpp's
    K-quants need rows of whole 256s), else of 32. Repair updates down.

    Attributes:
        multiple: What counts are multiples of, where 256 or 32 is not wanted.

    Example:
        >>> import torch
        >>> [unit.tolist() for unit in Neuron().units(torch.tensor([3.0, 1.0, 2.0, 4.0]), None, step=2)]
        [[3, 0], [2, 1]]
    """

    multiple: int | None = None

    unit: ClassVar[str] = "neurons per block"
    criterion: ClassVar[str] = "wanda"
    readers: ClassVar[tuple[str, ...]] = ("mlp_hidden",)

    def present(self, block: Block) -> int:
        """Count the neurons of one block."""
        return block.neurons

    def step(self, anatomy: Anatomy) -> int:
        """Return `multiple`, else 256, or 32 for models too narrow for that."""
        return self.multiple or (K_QUANT_BLOCK if self.size(anatomy) > K_QUANT_BLOCK else BLOCK)

    def owners(self, anatomy: Anatomy) -> list[Block]:
        """Return every block once for each of its MLPs."""
        return [block for block, _ in _mlps(anatomy)]

    def require_uneven(self, anatomy: Anatomy) -> None:
        """Refuse blocks with experts, which all have one width."""
        if any(block.experts for block in anatomy.blocks):
            raise InvalidInput("Experts are all of one width.", remedy="Cut the same count from every expert.")

    def remove(self, model: Model, kept: Any) -> Model:
        """Build a model of these neurons; int64 ``[keep]`` for each block, of experts for each of them, rising."""
        cut, counts = Cut(model), {}
        for (block, mlp), neurons in zip(_mlps(model.anatomy), kept, strict=True):
            counts[block.index] = replace(Counts.of(block), neurons=len(neurons))
            if not len(neurons):
                for projection in mlp.projections.values():
                    cut.drop(f"{projection.path}.")
                continue
            fed = [key for key, part in block.projections.items() if part in mlp.projections.values()]
            cut.rows(block, {key: neurons for key in fed if block.projections[key].role in READING})
            cut.take(mlp.projections["down"].weight, neurons, axis=1)
        return cut.build(with_counts(model.config, list(counts.values())))

    def read_by(self, model: Model, kept: Any) -> dict[str, Reader]:
        """Return the down projections of the blocks that lose some of their neurons."""
        return {
            mlp.projections["down"].weight: Reader(mlp.site("mlp_hidden"), neurons)
            for (block, mlp), neurons in zip(_mlps(model.anatomy), kept, strict=True)
            if 0 < len(neurons) < block.neurons
        }

    def parameters_saved(self, model: Model, keep: int) -> int:
        """Count the rows and columns that go, biases included."""
        saved, going = 0, self.size(model.anatomy) - keep
        for _, mlp in _mlps(model.anatomy):
            for role in (*READING, "down"):
                saved += going * model.anatomy.hidden_size
                layer = model.module.get_submodule(mlp.projections[role].path)
                saved += going if role in READING and layer.bias is not None else 0
        return saved


def _mlps(anatomy: Anatomy) -> list[tuple[Block, Mlp]]:
    """List every MLP with its block; of experts each."""
    return [(block, mlp) for block in anatomy.blocks for mlp in block.mlps]
