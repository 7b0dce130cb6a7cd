"""Channels scaled against the norm that they come from: the matrices are multiplied, the norm is divided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smidgen import formats
from smidgen.errors import InvalidInput
from smidgen.models.streamed import StreamedModel

if TYPE_CHECKING:
    import torch

    from smidgen.models.anatomy import Site
    from smidgen.models.model import Model
    from smidgen.shrink.quantize.solvers import Solver

READING = ("attention_input", "mlp_input")


def norms_alone(model: Model) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return the norm and the modules of every site that alone reads a norm, by the site's name."""
    blocks = model.anatomy.blocks
    found = {}
    for site in model.anatomy.sites():
        role = site.name.rpartition(".")[2]
        if site.block is None or role not in READING or ".experts." in site.name:
            continue
        block = blocks[site.block]
        if role in block.norm_before and block.router not in site.modules:
            found[site.name] = (block.norm_before[role], site.modules)
    return found


def divide_norm(model: Model, path: str, scales: torch.Tensor) -> None:
    """Let a norm give each channel divided by its scale, in place."""
    offset = model.anatomy.norm_offset
    norm = model.module.get_submodule(path)
    norm.weight.copy_((norm.weight + offset) / scales - offset)
    if getattr(norm, "bias", None) is not None:
        norm.bias.div_(scales)


class Folding:
    """Changes norms and matrices of a model as a solver asks for, while the model is being run.

    Args:
        model: Changed in place.
        chosen: Number format by matrix name.
        solver: Says what to scale by.

    Raises:
        InvalidInput: The solver folds, and the model stays on disk.
    """

    def __init__(self, model: Model, chosen: Mapping[str, str], solver: Solver) -> None:
        if solver.folds and isinstance(model, StreamedModel):
            raise InvalidInput(
                "This solver changes norms, which a model read from disk does not keep.", remedy="Use 'gptq'."
            )
        self.model, self.chosen, self.solver = model, chosen, solver
        self.found: dict[str, torch.Tensor] = {}
        self.norms = norms_alone(model) if solver.folds else {}

    def scales(self, site: str, names: Sequence[str], moments: torch.Tensor) -> torch.Tensor | None:
        """Scale a site's matrices and its norm; returns what its inputs must be divided by in this pass."""
        import torch

        kinds = {self.chosen[name] for name in names}
        if site not in self.norms or len(kinds) > 1:
            return None
        number_format = formats.find(*kinds)
        if not isinstance(number_format, formats.BlockFormat):
            return None
        weights = torch.cat([self.model.weight(name).float() for name in names])
        scales = self.solver.channel_scales(weights, moments, number_format)
        if scales is not None:
            norm, modules = self.norms[site]
            for path in modules:
                self.model.weight(f"{path}.weight").mul_(scales)
            divide_norm(self.model, norm, scales)
            self.found[site] = scales
        return scales

    def hooks(self, site: Site) -> list[Any]:
        """Divide what the site's other modules read, which was computed before the norm was changed."""
        if site.name not in self.norms:
            return []

        def divide(_: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...] | None:
            scales = self.found.get(site.name)
            return None if scales is None else (inputs[0] / scales.to(inputs[0].dtype), *inputs[1:])

        others = [self.model.module.get_submodule(path) for path in site.modules[1:]]
        return [module.register_forward_pre_hook(divide) for module in others]
