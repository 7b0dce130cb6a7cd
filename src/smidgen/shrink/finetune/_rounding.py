"""Quantization-aware training: the forward pass sees every matrix as it will be stored, the gradient passes by.

Straight-through estimator: Bengio 2013, arXiv 1308.3432, section 4; for whole networks Jacob 2018, arXiv 1712.05877.
The scales of every block are fitted anew in every pass, as they are when the weights are stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from smidgen import formats
from smidgen.errors import InvalidInput
from smidgen.models.model import Model, PackedTensor

if TYPE_CHECKING:
    import torch

STORED = "stored"
"""The name that stands for the formats the model is stored in already."""


def chosen_formats(model: Model, wanted: str) -> dict[str, str]:
    """Return the number format of every matrix to be rounded.

    Args:
        model: Whose matrices.
        wanted: A format for all, or `STORED`.

    Raises:
        ReferenceNotFound: There is no such format.
        InvalidInput: A matrix's rows do not divide into its blocks, or nothing is stored yet.
    """
    if wanted == STORED:
        if not model.packed:
            raise InvalidInput(
                "No matrix of this model is stored in a number format yet.",
                remedy="Name the format, as q4_0, or quantize it first.",
            )
        return {name: packed.format for name, packed in model.packed.items()}
    number_format = formats.find(wanted)
    widths = {model.weight(name).shape[1] for name in model.anatomy.matrices()}
    unfit = sorted(width for width in widths if not number_format.fits(width))
    if unfit:
        raise InvalidInput(
            f"The blocks of {number_format.name} do not divide this model's rows of {', '.join(map(str, unfit))}.",
            remedy="Take a format of smaller blocks, such as q4_0 or q8_0.",
        )
    return dict.fromkeys(model.anatomy.matrices(), wanted)


class Rounding:
    """The matrices of a model as number formats store them.

    Args:
        model: Its module is trained in place.
        chosen: Number format of each matrix.
    """

    def __init__(self, model: Model, chosen: Mapping[str, str]) -> None:
        self.model = model
        self.formats = {name: formats.find(each) for name, each in chosen.items()}
        self.chosen = dict(chosen)

    def __call__(self) -> dict[str, torch.Tensor]:
        """Return the rounded weights; their gradient is that of the weights themselves."""
        rounded = _straight_through().apply
        return {name: rounded(self.model.weight(name), each) for name, each in self.formats.items()}

    def stored(self) -> Model:
        """Return the model with its matrices rounded and their bytes kept."""
        import torch

        packed = dict(self.model.packed)
        with torch.no_grad():
            for name, number_format in self.formats.items():
                weight = self.model.weight(name)
                data = number_format.quantize(weight.float().cpu())
                weight.copy_(number_format.unpack(data))
                packed[name] = PackedTensor(self.chosen[name], data, (weight.shape[0], weight.shape[1]))
        return replace(self.model, packed=packed)


@cache
def _straight_through() -> Any:
    import torch

    class StraightThrough(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, weight: Any, number_format: Any) -> Any:
            return number_format.unpack(number_format.quantize(weight.detach().float().cpu())).to(weight)

        @staticmethod
        def backward(ctx: Any, slope: Any) -> Any:
            return slope, None

    return StraightThrough
