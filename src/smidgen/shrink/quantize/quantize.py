"""Quantises a whole model, every matrix seeing the inputs that its already quantised predecessors produce."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from smidgen import formats, heap, registry
from smidgen.errors import InvalidInput, RecipeError, ReferenceNotFound
from smidgen.models.centring import centred
from smidgen.models.model import Model
from smidgen.models.streamed import StreamedModel
from smidgen.progress import Progress, silent
from smidgen.shrink.precision import autocast
from smidgen.shrink.quantize import activations, solvers
from smidgen.shrink.quantize.keeping import Kept
from smidgen.shrink.quantize.sensitivity import PROBED_WINDOWS, Sensitivity, head_moments, probe
from smidgen.shrink.quantize.sequential import SequentialPass

if TYPE_CHECKING:
    import torch


WATCHED = 16
"""Windows whose activations are watched; their greatest sizes hardly grow with more."""
HEAD_WINDOWS = 12
"""Windows that the head's moments are taken from; more change nothing that can be measured."""


@dataclass(frozen=True)
class Quantize:
    """Store every matrix of a model in a block format.

    Attributes:
        formats: Number format of every matrix by its state-dictionary name; ``default`` for those not named.
        default: Number format of matrices that are not named; None leaves them as they are.
        solver: How the values are chosen, ``gptq``, ``nearest``, ``scale`` or ``learned``.
        damping: Share of the mean square of the inputs that ``gptq`` adds to each, so that few tokens suffice.
        smoothing: How much of the activations' outliers moves into the weights before, 0 to 1; 0 leaves them
            (SmoothQuant).
        static_activations: Note what every layer reads at most, so that 8-bit activations have a fixed scale.

    Raises:
        RecipeError: A format or the solver does not exist, or the damping is out of range.

    Example:
        small = Quantize(default="q4_0").apply(model, windows)
    """

    formats: Mapping[str, str] = field(default_factory=dict)
    default: str | None = None
    solver: str = "gptq"
    damping: float = 0.01
    smoothing: float = 0.0
    static_activations: bool = False

    def __post_init__(self) -> None:
        problems = []
        for name in dict.fromkeys((*self.formats.values(), *([] if self.default is None else [self.default]))):
            try:
                formats.find(name)
            except ReferenceNotFound as error:
                problems.append(str(error))
        if self.solver not in registry.names(solvers.__name__):
            problems.append(str(ReferenceNotFound.among("solver", self.solver, registry.names(solvers.__name__))))
        if not 0 < self.damping <= 1:
            problems.append(f"The damping is a share above 0 and up to 1, not {self.damping}.")
        if not 0 <= self.smoothing <= 1:
            problems.append(f"The smoothing is a share from 0 to 1, not {self.smoothing}.")
        if problems:
            raise RecipeError(problems)

    def apply(
        self,
        model: Model,
        calibration: torch.Tensor,
        *,
        sensitivity: Sensitivity | None = None,
        work: Path | None = None,
        progress: Progress = silent,
    ) -> Model:
        """Return the quantised model; the one given is not changed.

        Args:
            model: What to quantise.
            calibration: Token ids, int64 ``[windows, length]``; all are run through the model at once.
            sensitivity: What `probe` found of this model, where it is known; probed otherwise when needed.
            work: Folder for the finished parts of a `StreamedModel`, whose result reads them from there; a run that
                was stopped goes on from them.
            progress: Receives one event per matrix.

        Raises:
            RecipeError: A named matrix does not exist, or its rows do not divide into the format's blocks.
            InvalidInput: A streamed model is given without a folder.
        """
        import torch

        chosen = self.chosen(model)
        if isinstance(model, StreamedModel) and (self.smoothing or self.static_activations):
            raise InvalidInput("Activations are watched in memory, and this model stays on disk.", remedy="Load it.")
        if self.smoothing:
            smooth = activations.smoothed(model, calibration[:WATCHED], strength=self.smoothing, progress=progress)
            model = replace(smooth, lineage=model.lineage)
        # Memory that is kept for the next tensor lies about in pieces: what is read from disk goes by its peak.
        with nullcontext() if isinstance(model, StreamedModel) else heap.reused():
            model = centred(model)
            result = model if isinstance(model, StreamedModel) else model.clone()
            kept = self._kept(model, calibration, chosen, work)
            embedding = self._embedding_hessian(model, calibration, sensitivity, progress)
            solver = solvers.find(self.solver, **self._solver_fields())
            task = SequentialPass(result, chosen, solver, progress, kept)
            with torch.no_grad(), autocast():
                packed = task.run(calibration, embedding)
        parameters = {"formats": dict(sorted(chosen.items())), "solver": self.solver, "damping": self.damping}
        parameters["calibration_tokens"] = calibration.numel()
        parameters |= {"smoothing": self.smoothing} if self.smoothing else {}
        parameters |= {"static_activations": True} if self.static_activations else {}
        packed = packed if kept else {**model.packed, **packed}
        result = replace(result, packed=packed).with_step("quantize", **parameters)
        result = replace(result, lineage=result.lineage.noted(task.note)) if task.note else result
        if self.static_activations:
            packed = activations.with_static_scales(result, calibration[:WATCHED], progress).packed
        return replace(result, packed=packed)

    def _kept(
        self, model: Model, calibration: torch.Tensor, chosen: Mapping[str, str], work: Path | None
    ) -> Kept | None:
        """Open the folder of finished parts, which only a model on disk has."""
        import torch

        if not isinstance(model, StreamedModel):
            return None
        if work is None:
            raise InvalidInput(
                "A model that stays on disk is quantised into a folder, and none is named.", remedy="Name a folder."
            )
        identity = {
            "source": model.lineage.origin.sha256,
            "formats": dict(sorted(chosen.items())),
            "solver": {"name": self.solver, **self._solver_fields()},
            "calibration": hashlib.sha256(calibration.numpy().tobytes()).hexdigest(),
            "threads": torch.get_num_threads(),
        }
        return Kept(work, identity)

    def needs_sensitivity(self, model: Model) -> bool:
        """Whether quantising this model goes by its `Sensitivity`: when the embedding is the head as well.

        A solver that reads no pairs of inputs takes the head's share alone: the embedding's own is a twelfth of it, and
        takes a pass backward.
        """
        return self._embedding_is_head(model) and solvers.find(self.solver, **self._solver_fields()).reads_pairs

    def _embedding_is_head(self, model: Model) -> bool:
        return model.anatomy.tied and f"{model.anatomy.embedding}.weight" in self.chosen(model)

    def _embedding_hessian(
        self, model: Model, calibration: torch.Tensor, known: Sensitivity | None, progress: Progress
    ) -> torch.Tensor:
        import torch

        if not self._embedding_is_head(model):
            return torch.eye(model.anatomy.hidden_size)
        head = head_moments(model, calibration[:HEAD_WINDOWS], progress=progress)
        if isinstance(model, StreamedModel) or not self.needs_sensitivity(model):
            return head
        probed = known or probe(model, calibration[:PROBED_WINDOWS], progress=progress)
        return head + probed.embedding

    def _solver_fields(self) -> dict[str, float]:
        return {"damping": self.damping} if self.solver == "gptq" else {}

    def chosen(self, model: Model) -> dict[str, str]:
        """Return the number format of every matrix that will be stored, checked against the model."""
        matrices = model.anatomy.matrices()
        problems = [f"The model has no matrix {name!r}." for name in self.formats if name not in matrices]
        chosen = {}
        for name in matrices:
            wanted = self.formats.get(name, self.default)
            if wanted is None:
                continue
            columns = model.shape(name)[1]
            if not formats.find(wanted).fits(columns):
                problems.append(f"{name} has rows of {columns}, which {wanted} cannot hold.")
            chosen[name] = wanted
        for names in model.anatomy.stored_together():
            kinds = {str(chosen.get(name)) for name in names}
            if len(kinds) > 1:
                problems.append(f"{names[0]} and its fellow experts are stored as one, not as {sorted(kinds)}.")
        if problems:
            raise RecipeError(problems)
        return chosen
