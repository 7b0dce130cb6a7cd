"""Quantises a whole model, every matrix seeing the inputs that its already quantised predecessors produce."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from smidgen import formats, heap, registry
from smidgen.errors import RecipeError, ReferenceNotFound
from smidgen.models.centring import centred
from smidgen.models.model import Model, PackedTensor
from smidgen.progress import Event, Progress, silent
from smidgen.shrink.precision import autocast, exact
from smidgen.shrink.quantize import solvers
from smidgen.shrink.quantize.sensitivity import PROBED_WINDOWS, Sensitivity, head_moments, probe

if TYPE_CHECKING:
    import torch


HEAD, EXPERT = "head", ".experts."
HEAD_WINDOWS = 12
"""Windows that the head's moments are taken from; more change nothing that can be measured."""


@dataclass(frozen=True)
class Quantize:
    """Store every matrix of a model in a block format.

    Attributes:
        formats: Number format of every matrix by its state-dictionary name; ``default`` for those not named.
        default: Number format of matrices that are not named; None leaves them as they are.
        solver: How the values are chosen, ``gptq`` or ``nearest``.
        damping: See `solvers.gptq.Gptq`.

    Raises:
        RecipeError: A format or the solver does not exist, or the damping is out of range.

    Example:
        small = Quantize(default="q4_0").apply(model, windows)
    """

    formats: Mapping[str, str] = field(default_factory=dict)
    default: str | None = None
    solver: str = "gptq"
    damping: float = 0.01

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
        if problems:
            raise RecipeError(problems)

    @heap.reused()
    def apply(
        self,
        model: Model,
        calibration: torch.Tensor,
        *,
        sensitivity: Sensitivity | None = None,
        progress: Progress = silent,
    ) -> Model:
        """Return the quantised model; the one given is not changed.

        Args:
            model: What to quantise.
            calibration: Token ids, int64 ``[windows, length]``; all are run through the model at once.
            sensitivity: What `probe` found of this model, where it is known; probed otherwise when needed.
            progress: Receives one event per matrix.

        Raises:
            RecipeError: A named matrix does not exist, or its rows do not divide into the format's blocks.
        """
        import torch

        chosen = self.chosen(model)
        model = centred(model)
        result = model.clone()
        work = _Work(result, chosen, solvers.find(self.solver, **self._solver_fields()), progress)
        embedding = self._embedding_hessian(model, calibration, sensitivity, progress)
        with torch.no_grad(), autocast():
            work.quantize_embedding(embedding)
            work.quantize_blocks(calibration)
            work.quantize_head(calibration)
        parameters = {"formats": dict(sorted(chosen.items())), "solver": self.solver, "damping": self.damping}
        parameters["calibration_tokens"] = calibration.numel()
        result = replace(result, packed=work.packed).with_step("quantize", **parameters)
        return replace(result, lineage=result.lineage.noted(work.note)) if work.note else result

    def needs_sensitivity(self, model: Model) -> bool:
        """Whether quantising this model goes by its `Sensitivity`: when the embedding is the head as well."""
        return model.anatomy.tied and f"{model.anatomy.embedding}.weight" in self.chosen(model)

    def _embedding_hessian(
        self, model: Model, calibration: torch.Tensor, known: Sensitivity | None, progress: Progress
    ) -> torch.Tensor:
        import torch

        if not self.needs_sensitivity(model):
            return torch.eye(model.anatomy.hidden_size)
        probed = known or probe(model, calibration[:PROBED_WINDOWS], progress=progress)
        return head_moments(model, calibration[:HEAD_WINDOWS], progress=progress) + probed.embedding

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
            columns = model.weight(name).shape[1]
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


class _Work:
    """Runs one forward pass in which every matrix is replaced just before it is used."""

    def __init__(self, model: Model, chosen: Mapping[str, str], solver: solvers.Solver, progress: Progress) -> None:
        self.model, self.chosen, self.solver, self.progress = model, chosen, solver, progress
        self.packed: dict[str, PackedTensor] = dict(model.packed)
        self.done, self.note = 0, ""
        self.scarce: dict[str, int] = {}

    def store(self, names: Sequence[str], hessian: torch.Tensor | None) -> None:
        """Replace matrices that read the same input; those of one format are solved as one."""
        import torch

        for format_name in dict.fromkeys(self.chosen[name] for name in names):
            members = [name for name in names if self.chosen[name] == format_name]
            weights = [self.model.weight(name) for name in members]
            with exact():
                packed = self._solve(torch.cat([weight.float() for weight in weights]), hessian, format_name)
                values = formats.find(format_name).unpack(packed)
            rows = [len(weight) for weight in weights]
            for name, weight, data, value in zip(
                members, weights, torch.split(packed, rows), torch.split(values, rows), strict=True
            ):
                weight.copy_(value)
                self.packed[name] = PackedTensor(format_name, data.clone(), (weight.shape[0], weight.shape[1]))
                self.done += 1
                self.progress(Event("quantizing", self.done, len(self.chosen), "matrices", format_name))

    def _solve(self, weight: torch.Tensor, hessian: torch.Tensor | None, format_name: str) -> torch.Tensor:
        number_format = formats.find(format_name)
        if isinstance(number_format, formats.BlockFormat):
            return self.solver.solve(weight, hessian, number_format)
        return number_format.quantize(weight, None if hessian is None else hessian.diagonal())

    def quantize_embedding(self, hessian: torch.Tensor | None) -> None:
        """Quantise the embedding first, since everything after reads it."""
        name = f"{self.model.anatomy.embedding}.weight"
        if name in self.chosen:
            self.store([name], hessian)

    def quantize_blocks(self, calibration: torch.Tensor) -> None:
        module, hooks = self.model.module, []
        waiting: dict[str, list[str]] = {}
        for site in self.model.anatomy.sites():
            names = [f"{path}.weight" for path in site.modules if f"{path}.weight" in self.chosen]
            if names and site.name != HEAD:
                first = module.get_submodule(site.modules[0])
                waiting[site.name] = names
                hooks.append(first.register_forward_pre_hook(self._hook(site.name, waiting)))
        try:
            module.base_model(calibration, use_cache=False)
        finally:
            for hook in hooks:
                hook.remove()
        for site_name, names in waiting.items():  # experts that no token was routed to
            self.scarce[site_name] = 0
            self.store(names, self._identity(names))
        self._note_scarce()

    def _identity(self, names: Sequence[str]) -> torch.Tensor:
        import torch

        return torch.eye(self.model.weight(names[0]).shape[1])

    def _hook(self, site: str, waiting: dict[str, list[str]]) -> Any:
        def before(module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            tokens, width = inputs[0].numel() // inputs[0].shape[-1], inputs[0].shape[-1]
            moments = second_moments(inputs[0])
            if EXPERT in site and tokens < width:
                self.scarce[site] = tokens
                moments = towards_diagonal(moments, tokens / width)
            self.store(waiting.pop(site), moments)

        return before

    def _note_scarce(self) -> None:
        """Say which experts saw too few tokens to know how their inputs go together."""
        if not self.scarce:
            return
        fewest = min(self.scarce, key=lambda site: self.scarce[site])
        experts = {site.rpartition(".")[0] for site in self.scarce}
        self.note = (
            f"{len(experts)} experts saw fewer tokens of the calibration text than they have inputs, {fewest} only "
            f"{self.scarce[fewest]}: their rounding goes by each input alone, the less they saw. Use more text."
        )
        self.progress(Event("quantizing", note=self.note))

    def quantize_head(self, calibration: torch.Tensor) -> None:
        name = f"{self.model.anatomy.head}.weight"
        if name in self.chosen and not self.model.anatomy.tied:
            self.store([name], second_moments(final_hidden(self.model, calibration)))


def towards_diagonal(moments: torch.Tensor, share: float) -> torch.Tensor:
    """Keep this share of what was seen of pairs of inputs, and each input's own square as it was.

    Args:
        moments: XᵀX/n, ``[width, width]``.
        share: From 0 (nothing is known of pairs) to 1; where n tokens are fewer than the width, n / width.

    Example:
        >>> import torch
        >>> towards_diagonal(torch.tensor([[2.0, 1.0], [1.0, 4.0]]), 0.5).tolist()
        [[2.0, 0.5], [0.5, 4.0]]
    """
    return moments * share + moments.diagonal().diag() * (1 - share)


def second_moments(inputs: torch.Tensor, *, rows: int = 4096) -> torch.Tensor:
    """XᵀX/n of inputs ``[…, width]`` as float32 ``[width, width]``, accumulated ``rows`` tokens at a time."""
    import torch

    flat = inputs.reshape(-1, inputs.shape[-1])
    total = torch.zeros(flat.shape[-1], flat.shape[-1])
    with exact():
        for part in torch.split(flat, rows):
            values = part.float()
            total.addmm_(values.T, values)
    return total / len(flat)


def final_hidden(model: Model, calibration: torch.Tensor, *, batch: int = 8) -> torch.Tensor:
    """What the head reads, ``[windows, length, hidden]``."""
    import torch

    parts = [
        model.module.base_model(part, use_cache=False).last_hidden_state for part in torch.split(calibration, batch)
    ]
    return torch.cat(parts)
