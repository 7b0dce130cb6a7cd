"""Takes the mean of the channels out of all that is written into the residual stream.

Where every norm subtracts that mean first (LayerNorm), no output changes; and a norm that does not subtract it (RMS
norm), as llama.cpp has it, then gives the same (SliceGPT, arXiv 2401.15024).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from smidgen.models.anatomy import Anatomy
    from smidgen.models.model import Model

WRITING = ("output", "down")


def centred_weight(anatomy: Anatomy, name: str, weight: torch.Tensor) -> torch.Tensor:
    """Return a weight or bias without the mean of the channels that it writes; others are returned as they are.

    Args:
        anatomy: Where the weights lie; nothing changes where it is not ``mean_free``.
        name: Name in the state dictionary.
        weight: ``[hidden, in]``, a bias ``[hidden]``, or the embedding ``[vocabulary, hidden]``.
    """
    if not anatomy.mean_free:
        return weight
    axis = writers(anatomy).get(name)
    return weight if axis is None else weight - weight.mean(axis, keepdim=True)


def writers(anatomy: Anatomy) -> dict[str, int]:
    """Map all that is written into the residual stream, biases included, to the axis of the channels."""
    found = {f"{anatomy.embedding}.weight": 1}
    for block in anatomy.blocks:
        for part in block.projections.values():
            if part.role in WRITING:
                found |= {part.weight: 0, f"{part.path}.bias": 0}
    return found


def centred(model: Model) -> Model:
    """Return a model that computes the same with a residual stream free of means.

    Where norms keep the mean it is the model given. Packed weights stay as they are.
    """
    if not model.anatomy.mean_free:
        return model
    import torch

    from smidgen.models.streamed import StreamedModel

    result, anatomy = model.clone(), model.anatomy
    names = writers(anatomy)
    with torch.no_grad():
        for name, parameter in result.module.named_parameters():
            if name in names and name not in result.packed and parameter.device.type != "meta":
                parameter.copy_(centred_weight(anatomy, name, parameter))
    if isinstance(result, StreamedModel):
        return replace(result, change=partial(centred_weight, anatomy))  # the matrices, when they are read
    return result
