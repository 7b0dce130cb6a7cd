"""Prune: the pass that removes whole parts of a model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from smidgen import machine
from smidgen.errors import InvalidInput
from smidgen.progress import Event, Progress, silent
from smidgen.shrink.prune import criteria, structures
from smidgen.shrink.prune.criteria import Criterion, Evidence
from smidgen.shrink.prune.repair import FREE_MEMORY_SHARE, repair_neurons
from smidgen.shrink.prune.structures import Structure

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model
    from smidgen.shrink.statistics import Statistics

HIDDEN = "mlp_hidden"


def round_keep(structure: str, keep: int, model: Model) -> int:
    """Round a count down to what keeps the fast paths, at least to one step.

    Layers are counted singly, neurons in steps of 256 (32 in models too narrow for that), tokens in steps of 256.

    Args:
        structure: Kind of part.
        keep: How many shall stay.
        model: The model.
    """
    step = structures.find(structure).step(model.anatomy)
    return max(step, keep // step * step)


@dataclass(frozen=True)
class Prune:
    """Remove whole layers, neurons or tokens; the result is a smaller model of the same kind.

    Attributes:
        structure: What goes: ``layer``, ``neuron`` or ``vocabulary``.
        criterion: What goes first: ``block_influence``, ``loss``, ``activation``, ``l2``, ``use``; each scores some
            structures only.
        keep: How many layers, neurons per block or tokens stay; rounded down by `round_keep`.
        repair: Whether the layer that read removed neurons takes over their share by least squares. Layers and
            tokens have none.
        chosen: Which layers or tokens stay, where that is decided already; the criterion is then not asked.

    Example:
        >>> Prune("neuron", "use", keep=1024)
        Traceback (most recent call last):
        smidgen.errors.InvalidInput: The criterion 'use' cannot score neuron. For neuron take activation or l2.
    """

    structure: str
    criterion: str
    keep: int
    repair: bool = True
    chosen: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        structure, criterion = structures.find(self.structure), criteria.find(self.criterion)
        if self.structure not in criterion.structures:
            known = " or ".join(criteria.names_for(self.structure))
            raise InvalidInput(
                f"The criterion {self.criterion!r} cannot score {self.structure}.",
                remedy=f"For {self.structure} take {known}.",
            )
        if self.keep < 1:
            raise InvalidInput(f"{self.keep} {structure.unit} cannot stay.", remedy="Keep at least 1.")
        if self.chosen is None:
            return
        if not structure.listed:
            raise InvalidInput(f"One list cannot say which {structure.unit} stay.", remedy="Leave 'chosen' out.")
        object.__setattr__(self, "chosen", tuple(self.chosen))
        if list(self.chosen) != sorted(set(self.chosen)) or len(self.chosen) != self.keep or self.chosen[0] < 0:
            raise InvalidInput(f"'chosen' must list {self.keep} different {structure.unit} in rising order.")

    def apply(
        self,
        model: Model,
        calibration: torch.Tensor,
        *,
        token_use: torch.Tensor | None = None,
        statistics: Statistics | None = None,
        progress: Progress = silent,
    ) -> Model:
        """Build the smaller model; the one given stays as it was.

        Args:
            model: The model to prune.
            calibration: Tokens to go by, int64 ``[windows, length]``.
            token_use: How often the user's data holds each token, ``[vocabulary]``.
            statistics: Figures of this very model where they were collected already.
            progress: Receives reports.

        Raises:
            InvalidInput: ``keep`` or ``chosen`` does not fit the model.
        """
        import torch

        from smidgen.shrink.statistics import check_windows

        check_windows(calibration, model.anatomy)
        structure = structures.find(self.structure)
        keep = self._count(structure, model, progress)
        statistics = self._statistics(model, calibration, statistics, progress)
        if self.chosen is not None:
            kept = torch.tensor(self.chosen, dtype=torch.long)
            structure.check(model, kept)
        else:
            evidence = Evidence(calibration, statistics, token_use, progress)
            kept = self._criterion().choose(model, self.structure, keep, evidence)
        result = structure.remove(model, kept)
        if self._repairs():
            result = repair_neurons(model, result, kept, calibration, statistics=statistics, progress=progress)
        return result.with_step("prune", **self._parameters(keep, kept))

    def _criterion(self) -> Criterion:
        return criteria.find(self.criterion)

    def _repairs(self) -> bool:
        return self.repair and self.structure == "neuron"

    def _count(self, structure: Structure, model: Model, progress: Progress) -> int:
        """Return the count that stays, or say why it cannot be."""
        present, least = structure.size(model.anatomy), structure.least(model)
        if self.chosen is not None and self.chosen[-1] >= present:
            raise InvalidInput(f"'chosen' names {self.chosen[-1]}, and the model has {present:,} {structure.unit}.")
        keep = self.keep if self.chosen is not None else round_keep(self.structure, self.keep, model)
        if self.keep >= present or keep < least or self.keep < least:
            raise InvalidInput(
                f"{self.keep:,} of {present:,} {structure.unit} cannot be kept.",
                remedy=f"Keep at least {least:,} and fewer than {present:,}.",
            )
        if keep != self.keep:
            progress(Event("pruning", note=f"{self.keep:,} {structure.unit} rounded to {keep:,}"))
        return keep

    def _statistics(
        self, model: Model, calibration: torch.Tensor, given: Statistics | None, progress: Progress
    ) -> Statistics | None:
        """Return the figures that criterion and repair read, collected in one pass where memory allows."""
        from smidgen.shrink.statistics import collect, hessian_bytes

        roles = None if self.chosen is not None else self._criterion().needs
        if roles is None and not self._repairs():
            return given
        wanted = {*(roles or ()), *([HIDDEN] if self._repairs() else [])}
        sites = [f"{block.path}.{role}" for block in model.anatomy.blocks for role in sorted(wanted)]
        hessians = self._repairs() and hessian_bytes(model.anatomy, sites) < FREE_MEMORY_SHARE * machine.memory()[1]
        if given is not None and given.mean_absolute.keys() >= set(sites):
            return given
        return collect(model, calibration, sites=sites, hessians=hessians, progress=progress)

    def _parameters(self, keep: int, kept: torch.Tensor) -> dict[str, Any]:
        """Return the step's parameters; which tokens stay stands in the lineage's own map."""
        chosen = kept.tolist() if self.structure == "layer" else None
        return asdict(replace(self, keep=keep, chosen=None)) | {"chosen": chosen}
