"""Activations in few bits: what every linear layer reads is rounded to a number format, or multiplied in it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from smidgen import formats
from smidgen.errors import Unsupported

if TYPE_CHECKING:
    from torch import Tensor

    from smidgen.models.model import Model, PackedTensor

SMALLEST = 1e-12
WHOLE_NUMBERS, FLOATS = "integer:group=0", "float8"
"""Formats in which torch multiplies: one scale for every row of the weights and for every token of the inputs."""


def apply(model: Model, spelled: str) -> int:
    """Let every linear layer of a loaded model read its inputs in a number format, in place.

    Where weights are packed as ``integer:group=0`` and the inputs are to be so too, both are multiplied as integers of
    8 bits (W8A8); likewise ``float8``. The inputs' scale is found for every token, its greatest size at the format's
    greatest value, or fixed where the model brings one from calibration (`PackedTensor.inputs`). Everything else is
    simulated: each token's inputs are stored in the format, its scales searched as they are for weights, and read back.

    Args:
        model: What `smidgen.inference.torch_library.read` returned; changed.
        spelled: Number format of the inputs.

    Returns:
        How many layers multiply in the format.

    Raises:
        ReferenceNotFound: There is no such format.
        Unsupported: A layer's inputs do not divide into its blocks.
    """
    number_format, multiplied = formats.find(spelled), 0
    for path, layer in _layers(model):
        if not number_format.fits(layer.in_features):
            raise Unsupported(
                f"{path} reads {layer.in_features} inputs, which {number_format.name} cannot hold.",
                remedy="Take a format with smaller blocks, such as integer:group=0.",
            )
        stored = model.packed.get(f"{path}.weight")
        if stored is None and path == model.anatomy.head and model.anatomy.tied:
            stored = model.packed.get(f"{model.anatomy.embedding}.weight")
        name = number_format.name
        if stored is not None and name in (WHOLE_NUMBERS, FLOATS) and formats.find(stored.format).name == name:
            parent, _, own = path.rpartition(".")
            setattr(model.module.get_submodule(parent), own, _kinds()[name](layer, stored))
            multiplied += 1
        else:
            layer.register_forward_pre_hook(_rounding(number_format))
    return multiplied


def rounded(inputs: Tensor, number_format: formats.NumberFormat) -> Tensor:
    """Return inputs [..., width] as a format holds them, every token for itself.

    Example:
        >>> import torch
        >>> inputs = torch.tensor([-4.0, -3, -2, -1, 0, 1, 2, 2.9])
        >>> (rounded(inputs, formats.find("integer:bits=3,group=0")) - inputs).abs().max().item() < 0.12
        True
    """
    flat = inputs.reshape(-1, inputs.shape[-1])
    if not len(flat):
        return inputs
    return number_format.unpack(number_format.quantize(flat.float())).to(inputs.dtype).reshape(inputs.shape)


def _rounding(number_format: formats.NumberFormat) -> Any:
    def before(module: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (rounded(inputs[0], number_format), *inputs[1:])

    return before


def _layers(model: Model) -> list[tuple[str, Any]]:
    """Return the linear layers that matrices belong to, the head included."""
    anatomy = model.anatomy
    paths = [name.removesuffix(".weight") for name in anatomy.matrices()]
    paths = [*(path for path in paths if path not in (anatomy.embedding, anatomy.head)), anatomy.head]
    return [(path, model.module.get_submodule(path)) for path in paths]


@cache
def _kinds() -> dict[str, Any]:
    import torch

    class Multiplied(torch.nn.Module):
        """A linear layer whose weights and inputs are both multiplied in 8 bits.

        Rows of the bytes hold a float16 scale and then one byte per weight.
        """

        highest: float
        values: torch.Tensor
        scale: torch.Tensor

        def __init__(self, layer: Any, stored: PackedTensor) -> None:
            super().__init__()
            self.in_features, self.out_features, self.bias = layer.in_features, layer.out_features, layer.bias
            self.fixed = stored.inputs
            scale = stored.data[:, :2].contiguous().view(torch.float16).float().flatten()
            self.register_buffer("scale", scale, persistent=False)
            self.register_buffer("values", self.read(stored.data[:, 2:]), persistent=False)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            """Return ``x Wᵀ + b``."""
            flat = inputs.reshape(-1, self.in_features).float()
            if self.fixed is None:
                unit = flat.abs().amax(1, keepdim=True).clamp(min=SMALLEST) / self.highest
            else:
                unit = torch.tensor(self.fixed / self.highest)
            scaled = (flat / unit).clamp_(-self.highest, self.highest)
            outputs = self.product(scaled) * (unit * self.scale)
            outputs = outputs if self.bias is None else outputs + self.bias
            return outputs.to(inputs.dtype).reshape(*inputs.shape[:-1], self.out_features)

        def read(self, codes: torch.Tensor) -> torch.Tensor:
            """Return the weights [out, in] without their scales."""
            raise AssertionError("each kind reads its own")

        def product(self, scaled: torch.Tensor) -> torch.Tensor:
            """Return ``x Wᵀ`` of scaled inputs [tokens, in] in float32."""
            raise AssertionError("each kind multiplies its own")

    class Integers(Multiplied):
        """The product of 8-bit integers, summed up in 32 bits."""

        highest = 127.0

        def read(self, codes: torch.Tensor) -> torch.Tensor:
            return (codes ^ 0x80).contiguous().view(torch.int8)

        def product(self, scaled: torch.Tensor) -> torch.Tensor:
            return torch._int_mm(scaled.round_().to(torch.int8), self.values.t()).float()

    class Floats(Multiplied):
        """The product of 8-bit floats."""

        highest = 448.0

        def read(self, codes: torch.Tensor) -> torch.Tensor:
            return codes.contiguous().view(torch.float8_e4m3fn)

        def product(self, scaled: torch.Tensor) -> torch.Tensor:
            # Products of two such floats are exact in float32, in which processors without 8-bit floats sum them up.
            return torch.nn.functional.linear(scaled.to(torch.float8_e4m3fn).float(), self.values.float())

    return {WHOLE_NUMBERS: Integers, FLOATS: Floats}
