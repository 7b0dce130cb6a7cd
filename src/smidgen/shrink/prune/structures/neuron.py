"""Neurons of the MLPs' hidden layers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.models.uneven import Counts, with_counts
from smidgen.shrink.prune.repair import Reader
from smidgen.shrink.prune.structures import BlockStructure
from smidgen.shrink.prune.structures._cut import Cut

if TYPE_CHECKING:
    from smidgen.models.anatomy import Anatomy, Block
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
    criterion: ClassVar[str] = "activation"
    readers: ClassVar[tuple[str, ...]] = ("mlp_hidden",)

    def present(self, block: Block) -> int:
        """Count the neurons of one block."""
        return block.neurons

    def step(self, anatomy: Anatomy) -> int:
        """Return `multiple`, else 256, or 32 for models too narrow for that."""
        return self.multiple or (K_QUANT_BLOCK if self.size(anatomy) > K_QUANT_BLOCK else BLOCK)

    def remove(self, model: Model, kept: Any) -> Model:
        """Build a model of these neurons; int64 ``[keep]`` for each block, rising."""
        cut, counts = Cut(model), []
        for block, neurons in zip(model.anatomy.blocks, kept, strict=True):
            counts.append(replace(Counts.of(block), neurons=len(neurons)))
            if not len(neurons):
                for role in (*READING, "down"):
                    if role in block.projections:
                        cut.drop(f"{block.projections[role].path}.")
                continue
            cut.rows(block, {role: neurons for role in READING if role in block.projections})
            cut.take(block.projections["down"].weight, neurons, axis=1)
        return cut.build(with_counts(model.config, counts))

    def read_by(self, model: Model, kept: Any) -> dict[str, Reader]:
        """Return the down projections of the blocks that lose some of their neurons."""
        return {
            block.projections["down"].weight: Reader(f"{block.path}.mlp_hidden", neurons)
            for block, neurons in zip(model.anatomy.blocks, kept, strict=True)
            if 0 < len(neurons) < block.neurons
        }

    def parameters_saved(self, model: Model, keep: int) -> int:
        """Count the rows and columns that go, biases included."""
        saved, going = 0, self.size(model.anatomy) - keep
        for block in model.anatomy.blocks:
            for role in (*READING, "down"):
                saved += going * model.anatomy.hidden_size
                layer = model.module.get_submodule(block.projections[role].path)
                saved += going if role in READING and layer.bias is not None else 0
        return saved
