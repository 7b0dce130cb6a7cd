"""A model in memory: modules, tokenizer, anatomy and lineage."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast

    from smidgen.models.anatomy import Anatomy
    from smidgen.models.families import Family
    from smidgen.models.lineage import Lineage
    from smidgen.models.vision import Vision


@dataclass(frozen=True)
class PackedTensor:
    """A weight as it will be stored: the bytes of every row in one number format.

    Attributes:
        format: Name of the number format, as "q4_0".
        data: uint8 tensor ``[rows, bytes per row]``, rows in the order of the model's own weight.
        shape: Shape of the weight, ``(rows, columns)``.
        inputs: The greatest size of what its layer reads, from calibration, for activations whose scale is fixed; None
            where it is to be found for every token.
    """

    format: str
    data: torch.Tensor
    shape: tuple[int, int]
    inputs: float | None = None


def _nothing(name: str) -> None:
    """Know of no bytes."""


@dataclass(frozen=True)
class Model:
    """What every pass takes and returns. A pass never changes the model that it was given.

    Attributes:
        module: The transformers model.
        tokenizer: Its fast tokenizer, with chat template.
        family: What is peculiar to this architecture.
        lineage: Where it came from and what was done to it.
        packed: Weights that already have their final bytes, by state-dictionary name; the module then holds
            the same values as floats.
        as_read: Returns the bytes that a matrix had in the file it was read from, by its state-dictionary name; None
            where there are none. They stay with the model when its weights change: see `original`.
    """

    module: Any
    tokenizer: PreTrainedTokenizerFast
    family: Family
    lineage: Lineage
    packed: Mapping[str, PackedTensor] = field(default_factory=dict)
    as_read: Callable[[str], PackedTensor | None] = field(default=_nothing, compare=False)
    vision: Vision | None = None

    @property
    def config(self) -> Any:
        """The transformers configuration."""
        return self.module.config

    @property
    def anatomy(self) -> Anatomy:
        """Where the parts lie, derived from the configuration."""
        from smidgen.models.uneven import adjusted

        return adjusted(self.family.anatomy(self.module.config), self.module.config)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = next(self.module.parameters()).device
        return device

    def parameter_count(self) -> int:
        """Count the weights, those that read images with them; a tied head counts once."""
        own: int = sum(parameter.numel() for parameter in self.module.parameters())
        return own + (self.vision.parameter_count() if self.vision is not None else 0)

    def weight(self, name: str) -> torch.Tensor:
        """Return one parameter by its state-dictionary name."""
        parameter: torch.Tensor = self.module.get_parameter(name)
        return parameter

    def original(self, name: str) -> PackedTensor | None:
        """Return the bytes that a matrix was read from where it still has exactly their values, else None."""
        import torch

        from smidgen import formats

        found = self.as_read(name)
        if found is None or found.shape != self.shape(name):
            return None
        values = formats.find(found.format).unpack(found.data)
        return found if torch.equal(values, self.weight(name).detach().cpu().to(values.dtype)) else None

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one parameter."""
        return tuple(self.module.get_parameter(name).shape)

    def clone(self) -> Model:
        """Copy the module so that it can be changed; tokenizer and lineage are immutable and shared."""
        return replace(self, module=copy.deepcopy(self.module), packed=dict(self.packed))

    def with_step(self, operation: str, **parameters: Any) -> Model:
        """Return the model with one more step in its lineage."""
        return replace(self, lineage=self.lineage.then(operation, **parameters))
