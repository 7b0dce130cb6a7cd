"""Sets single weights to zero, matrix by matrix, each seeing the inputs that its pruned predecessors produce."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from smidgen.progress import Event, Progress, silent
from smidgen.shrink.hessian import inverse_factor
from smidgen.shrink.precision import autocast, exact
from smidgen.shrink.prune.allocation import outlier_share, outlier_sparsities
from smidgen.shrink.prune.compensation import compensate
from smidgen.shrink.prune.criteria import Criterion, WeightEvidence
from smidgen.shrink.prune.criteria.sparsegpt import Sparsegpt, sparsegpt
from smidgen.shrink.prune.criteria.wanda import wanda
from smidgen.shrink.prune.structures import WeightStructure
from smidgen.shrink.prune.structures._rebuild import packed_without

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model

ROWS = 4096


@dataclass(frozen=True)
class WeightCut:
    """How single weights are removed.

    Attributes:
        structure: Which patterns are allowed.
        criterion: What goes first.
        sparsities: Share that goes, for each block.
        repair: Whether the weights that stay make up for those that go.
        gradients: ∂loss/∂w by the weight's name, where the criterion needs them.
    """

    structure: WeightStructure
    criterion: Criterion
    sparsities: Sequence[float]
    repair: bool
    gradients: Mapping[str, torch.Tensor] = field(default_factory=dict)


def zero_weights(model: Model, cut: WeightCut, calibration: torch.Tensor, progress: Progress = silent) -> Model:
    """Build a model in which weights of the blocks' matrices are zero; the one given stays as it was.

    All calibration windows run through the model at once, and every matrix is pruned just before it is used.

    Args:
        model: The model.
        cut: How.
        calibration: Tokens, int64 ``[windows, length]``.
        progress: Receives one event per matrix.

    Raises:
        InvalidInput: The pattern does not divide a matrix, or the text tells nothing about an input.
    """
    import torch

    for block in model.anatomy.blocks:
        for projection in block.projections.values():
            cut.structure.check_columns(model.weight(projection.weight).shape[1])
    result = model.clone()
    work = _Work(result, cut, progress)
    with torch.no_grad(), autocast(model.device.type):
        if cut.criterion.needs("weight") is None and not cut.repair:
            work.without_text()
        else:
            work.run(calibration)
    return replace(result, packed=packed_without(result, work.names))


class _Work:
    """One pass in which every matrix is pruned before it is used."""

    def __init__(self, model: Model, cut: WeightCut, progress: Progress) -> None:
        self.model, self.cut, self.progress = model, cut, progress
        self.block_of = {
            each.weight: block.index for block in model.anatomy.blocks for each in block.projections.values()
        }
        self.names, self.done = list(self.block_of), 0

    def run(self, calibration: torch.Tensor) -> None:
        """Run the text through the model, pruning on the way."""
        module, hooks = self.model.module, []
        waiting: dict[str, list[str]] = {}
        for site in self.model.anatomy.sites():
            names = [name for path in site.modules if (name := f"{path}.weight") in self.block_of]
            if site.block is not None and names:
                layer = module.get_submodule(site.modules[0])
                waiting[site.name] = names
                hooks.append(layer.register_forward_pre_hook(self._hook(site.name, waiting)))
        training = module.training
        module.eval()
        try:
            module.base_model(calibration.to(self.model.device), use_cache=False)
        finally:
            module.train(training)
            for hook in hooks:
                hook.remove()
        for names in waiting.values():  # experts that no token was routed to
            width = self.model.weight(names[0]).shape[1]
            self.prune(names, torch.ones(width), torch.eye(width))

    def _hook(self, site: str, waiting: dict[str, list[str]]) -> Any:
        def before(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            with exact(inputs[0].device.type):
                needs = self.cut.repair or isinstance(self.cut.criterion, Sparsegpt)
                self.prune(waiting.pop(site), *_moments(inputs[0], hessian=needs))

        return before

    def without_text(self) -> None:
        """Prune every matrix by its weights alone."""
        import torch

        for name in self.names:
            self.prune([name], torch.ones(self.model.weight(name).shape[1]), None)

    def prune(self, names: Sequence[str], second_moment: torch.Tensor, hessian: torch.Tensor | None) -> None:
        """Prune matrices that read the same input."""
        factor = inverse_factor(hessian) if hessian is not None else None
        for name in names:
            weight = self.model.weight(name)
            evidence = WeightEvidence(second_moment, hessian, self.cut.gradients.get(name))
            weight.copy_(self._pruned(weight, evidence, factor, self.cut.sparsities[self.block_of[name]]))
            self.done += 1
            self.progress(Event("removing weights", self.done, len(self.names), "matrices"))

    def _pruned(
        self, weight: torch.Tensor, evidence: WeightEvidence, factor: torch.Tensor | None, sparsity: float
    ) -> torch.Tensor:
        cut = self.cut
        share, group = cut.structure.sparsity(sparsity), cut.structure.group()
        if cut.repair and factor is not None and isinstance(cut.criterion, Sparsegpt):
            return compensate(
                weight,
                factor,
                lambda values, diagonal, first: cut.structure.stays(sparsegpt(values, diagonal), share, first),
                group=group,
            )
        stays = cut.structure.stays(cut.criterion.score_weights(weight, evidence).cpu(), share)
        if not cut.repair or factor is None:
            return weight.masked_fill(~stays.to(weight.device), 0.0)
        return compensate(
            weight, factor, lambda values, _, first: stays[:, first : first + values.shape[1]], group=group
        )


def _moments(inputs: torch.Tensor, *, hessian: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return mean x² ``[width]`` and, if wanted, mean x·xᵀ ``[width, width]`` of inputs ``[…, width]``."""
    import torch

    flat = inputs.detach().reshape(-1, inputs.shape[-1])
    total = torch.zeros(flat.shape[-1], flat.shape[-1]) if hessian else None
    squares = torch.zeros(flat.shape[-1], dtype=torch.float64)
    for part in torch.split(flat, ROWS):
        values = part.float().cpu()
        squares += values.square().sum(0, dtype=torch.float64)
        if total is not None:
            total.addmm_(values.T, values)
    return (squares / len(flat)).float(), None if total is None else total / len(flat)


def block_sparsities(model: Model, sparsity: float, second_moments: Mapping[str, torch.Tensor]) -> list[float]:
    """Give every block its own sparsity by its share of outliers among |w|·‖X‖ (OWL, arXiv 2310.05175).

    Args:
        model: The model.
        sparsity: Mean share of weights that goes.
        second_moments: Mean x² of the inputs of every site in the blocks.
    """
    read = {path: site.name for site in model.anatomy.sites() for path in site.modules}
    shares = []
    for block in model.anatomy.blocks:
        paths = dict.fromkeys(each.path for each in block.projections.values())
        shares.append(
            outlier_share([wanda(model.weight(f"{path}.weight"), second_moments[read[path]]) for path in paths])
        )
    return outlier_sparsities(shares, sparsity)
