"""Neurons of the MLPs' hidden layers."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from smidgen.shrink.prune.structures import Structure
from smidgen.shrink.prune.structures._rebuild import copied_state, packed_without, rebuild

if TYPE_CHECKING:
    import torch

    from smidgen.models.anatomy import Anatomy, Block
    from smidgen.models.model import Model

READING = ("gate", "up")
K_QUANT_BLOCK, BLOCK = 256, 32


@dataclass(frozen=True)
class Neuron(Structure):
    """Neurons of every block's MLP: ``keep`` says how many stay in each block.

    A neuron is a row of gate and up and the matching column of down. Every block keeps the same count, chosen
    by its own ranking, so that the result is an ordinary model. The count is a multiple of 256 where that
    leaves any (llama.cpp's K-quants need rows of whole 256s), else of 32.

    Example:
        >>> import torch
        >>> Neuron().select(None, torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 4.0]]), keep=2).tolist()
        [[0, 2], [1, 2]]
    """

    unit: ClassVar[str] = "neurons per block"
    listed: ClassVar[bool] = False

    def size(self, anatomy: Anatomy) -> int:
        """Count the neurons of one block."""
        return anatomy.blocks[0].neurons

    def step(self, anatomy: Anatomy) -> int:
        """Return 256, or 32 for models too narrow for that."""
        return K_QUANT_BLOCK if self.size(anatomy) > K_QUANT_BLOCK else BLOCK

    def remove(self, model: Model, kept: torch.Tensor) -> Model:
        """Build a model of these neurons; int64 ``[blocks, keep]``, each row rising."""
        config = copy.deepcopy(model.config)
        config.intermediate_size = kept.shape[1]
        state, changed = copied_state(model), set()
        for block, indices in zip(model.anatomy.blocks, kept.to(model.device), strict=True):
            for path, rows in _rows_read(block, indices).items():
                for name in (f"{path}.weight", f"{path}.bias"):
                    if name in state:
                        state[name] = state[name].index_select(0, rows)
                        changed.add(name)
            down = block.projections["down"].weight
            state[down] = state[down].index_select(1, indices)
            changed.add(down)
        return replace(model, module=rebuild(model, config, state), packed=packed_without(model, changed))

    def parameters_saved(self, model: Model, keep: int) -> int:
        """Count the rows and columns that go, biases included."""
        saved, going = 0, self.size(model.anatomy) - keep
        for block in model.anatomy.blocks:
            for role in (*READING, "down"):
                saved += going * model.anatomy.hidden_size
                layer = model.module.get_submodule(block.projections[role].path)
                saved += going if role in READING and layer.bias is not None else 0
        return saved


def _rows_read(block: Block, neurons: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the rows that stay of the layers that feed the neurons, by module path; fused ones are joined."""
    import torch

    rows: dict[str, list[torch.Tensor]] = {}
    for role in READING:
        projection = block.projections[role]
        first = projection.rows[0] if projection.rows else 0
        rows.setdefault(projection.path, []).append(neurons + first)
    return {path: torch.cat(parts) for path, parts in rows.items()}
