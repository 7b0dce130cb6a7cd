"""Compares criteria on one cut: what each was predicted to cost and what it did cost, at the same size."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from smidgen import divergence
from smidgen.progress import Event, Progress, silent
from smidgen.shrink.precision import autocast
from smidgen.shrink.prune import criteria
from smidgen.shrink.prune.criteria import Evidence, Needs
from smidgen.shrink.prune.cutting import gathered
from smidgen.shrink.prune.prune import Prune
from smidgen.shrink.prune.structures import BlockStructure, Structure, WeightStructure, find
from smidgen.shrink.prune.structures.expert import Expert
from smidgen.shrink.prune.structures.head import Head
from smidgen.shrink.prune.structures.layer import Layer
from smidgen.shrink.prune.structures.width import Width

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model
    from smidgen.shrink.statistics import Statistics

STRETCH = 64
"""Tokens of one sample of the prediction: short ones make many of a little text."""

PREDICTED_TOKENS = 2048
WRITERS = ("output", "down")


@dataclass(frozen=True)
class Damage:
    """What one criterion's cut costs.

    Attributes:
        criterion: Its name.
        predicted_kl: Predicted from the source alone (`predicted_damage`), in nats per token.
        measured_kl: Measured on held-out text, in nats per token; of a cut of tokens what the same text costs more
            when it is spelled with those that stay.
        parameters: Weights that are left and not zero.
        seconds: How long scoring, cutting and repair took, without the pass over the text that all criteria share.
    """

    criterion: str
    predicted_kl: float
    measured_kl: float
    parameters: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


def compare_criteria(
    operation: Prune,
    names: Sequence[str],
    model: Model,
    calibration: torch.Tensor,
    held_out: torch.Tensor,
    *,
    token_use: torch.Tensor | None = None,
    progress: Progress = silent,
) -> list[Damage]:
    """Make the same cut by several criteria and measure each; the model given stays as it was.

    Args:
        operation: The cut; its criterion does not matter.
        names: The criteria to compare.
        model: The model to prune.
        calibration: Tokens to go by, int64 ``[windows, length]``.
        held_out: Tokens to measure on, from other text.
        token_use: How often the user's data holds each token, ``[vocabulary]``.
        progress: Receives reports.

    Returns:
        One entry for each, the least damage first.
    """
    found = []
    model = model if operation.makes_uneven else model.family.for_cutting(model, operation.structure)
    statistics = _shared_statistics(operation, names, model, calibration, progress)
    for number, name in enumerate(names):
        progress(Event("comparing criteria", number, len(names), "criteria", name))
        started = time.perf_counter()
        cut = replace(operation, criterion=name)
        result, kept = cut.cut(model, calibration, token_use=token_use, statistics=statistics, progress=progress)
        seconds = time.perf_counter() - started
        if operation.structure == "vocabulary":
            predicted = _lost_use(model, kept, calibration, token_use)
            measured = spelling_cost(model, result, held_out)
        else:
            changed = same_shape(model, result, cut.built_structure(), kept)
            predicted = predicted_damage(model, changed, calibration)
            measured = mean_divergence(model, result, held_out)
        found.append(Damage(name, predicted, measured, _nonzero(result), round(seconds, 3)))
    return sorted(found, key=lambda damage: (damage.measured_kl, damage.criterion))


def _shared_statistics(
    operation: Prune, names: Sequence[str], model: Model, calibration: torch.Tensor, progress: Progress
) -> Statistics | None:
    """Collect in one pass what all criteria and the repair read."""
    structure = operation.built_structure()
    if isinstance(structure, WeightStructure) or operation.rounds > 1:
        return None
    asked = [each for each in (criteria.find(name).needs(operation.structure) for name in names) if each is not None]
    needs = Needs(
        roles=tuple(dict.fromkeys(role for each in asked for role in each.roles)),
        hessians=any(each.hessians for each in asked),
        preactivations=any(each.preactivations for each in asked),
        gradients=any(each.gradients for each in asked),
    )
    readers = structure.readers if operation.repair else ()
    evidence = Evidence(calibration, progress=progress)
    return gathered(model, operation.structure, needs if asked else None, readers, evidence)


def fitting(structure: str, criterion: str | None) -> tuple[str, ...]:
    """Return the criteria that a name means: ``all``, None for the structure's own, or one alone."""
    if criterion == "all":
        find(structure)
        return criteria.names_for(structure)
    return (criterion or find(structure).criterion,)


def _nonzero(model: Model) -> int:
    return sum(int(parameter.count_nonzero()) for parameter in model.module.parameters())


def mean_divergence(source: Model, result: Model, windows: torch.Tensor) -> float:
    """Return the mean KL of source ‖ result over the tokens of some windows, in nats."""
    import torch

    from smidgen.shrink.statistics import evaluating

    total = 0.0
    with torch.no_grad(), evaluating(source), evaluating(result), autocast(source.device.type):
        for window in torch.split(windows, 1):
            ours, theirs = (
                model.module(input_ids=window.to(model.device), use_cache=False).logits[0].float()
                for model in (source, result)
            )
            total += float(divergence.kl(ours, theirs).sum(dtype=torch.float64))
    return total / windows.numel()


def spelling_cost(source: Model, result: Model, windows: torch.Tensor) -> float:
    """Return what text costs more when it is spelled with the result's tokens, in nats per token of the source."""
    import torch

    total, count = 0.0, 0
    for window in windows:
        text = source.tokenizer.decode(window, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        losses = []
        for model in (source, result):
            # With the token that begins a text, where there is one: without it some models say nothing sensible.
            tokens = torch.tensor([model.tokenizer(text)["input_ids"]])
            with torch.no_grad(), autocast(model.device.type):
                logits = model.module(input_ids=tokens.to(model.device), use_cache=False).logits[0].float()
            losses.append(float(divergence.negative_log_likelihood(logits[:-1], tokens[0, 1:]).sum()))
            count += tokens.shape[1] if model is source else 0
        total += losses[1] - losses[0]
    return total / count


def _lost_use(model: Model, kept: torch.Tensor, calibration: torch.Tensor, use: torch.Tensor | None) -> float:
    """Predict a cut of tokens: −log of the share of the text's tokens that stay."""
    import torch

    counts = calibration.flatten().bincount(minlength=model.anatomy.vocabulary_size) if use is None else use
    stays = kept[kept < len(counts)]
    share = float(counts[stays].sum() / counts.sum().clamp_min(1))
    return float(-torch.tensor(max(share, 1e-9)).log())


def predicted_damage(
    model: Model, changed: Mapping[str, torch.Tensor], windows: torch.Tensor, *, seed: int = 0
) -> float:
    """Predict what a change of weights costs, to second order, from the source's own gradients.

    KL ≈ ½·ΔwᵀFΔw with F the Fisher information, here ½·mean((g·Δw)²)/tokens over short stretches of text, g the
    gradient of the negative log-likelihood of labels drawn from the model. Exact for small changes; large ones
    (a whole layer) it only ranks.

    Args:
        model: The source.
        changed: The new weights by name, in the shapes of the old ones.
        windows: Tokens, int64 ``[windows, length]``.
        seed: Of the labels.

    Returns:
        Nats per token.
    """
    import torch
    import torch.nn.functional as functional

    from smidgen.shrink.statistics import evaluating

    if not changed:
        return 0.0
    length = min(STRETCH, windows.shape[1])
    stretches = windows.flatten()[: max(length, PREDICTED_TOKENS)]
    stretches = stretches[: len(stretches) // length * length].reshape(-1, length)
    generator = torch.Generator().manual_seed(seed)
    total = 0.0
    with evaluating(model), _only(model, changed) as weights:
        for stretch in stretches:
            with autocast(model.device.type):
                logits = model.module(input_ids=stretch[None].to(model.device), use_cache=False).logits[0].float()
            drawn = torch.multinomial(logits.detach().softmax(-1).cpu(), 1, generator=generator)[:, 0]
            loss = functional.cross_entropy(logits, drawn.to(logits.device), reduction="sum")
            slopes = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
            slope = sum(
                float((each.float() * (changed[name].to(each.device) - weights[name].detach()).float()).sum())
                for name, each in zip(weights, slopes, strict=True)
                if each is not None  # experts that none of these tokens was routed to
            )
            total += slope**2
    return total / (2 * stretches.numel())


@contextmanager
def _only(model: Model, names: Iterable[str]) -> Iterator[dict[str, torch.Tensor]]:
    """Let gradients run to some weights only."""
    flags = {parameter: parameter.requires_grad for parameter in model.module.parameters()}
    weights = {name: model.weight(name) for name in names}
    try:
        model.module.requires_grad_(False)
        for weight in weights.values():
            weight.requires_grad_(True)
        yield weights
    finally:
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)


def same_shape(model: Model, result: Model, structure: Structure, kept: Any) -> dict[str, torch.Tensor]:
    """Return weights in the source's shapes with which it computes about what the pruned model does.

    Only those that differ: where parts are removed the matrices that read them, with zeros in their columns.

    Args:
        model: The source.
        result: The pruned model.
        structure: The kind of part that went.
        kept: The indices of what stayed; None for single weights.
    """
    import torch

    if isinstance(structure, WeightStructure):
        names = {each.weight for block in model.anatomy.blocks for each in block.projections.values()}
        return {name: result.weight(name).detach() for name in sorted(names)}
    changed = {}
    for name in _unread(model, structure, kept):
        changed[name] = torch.zeros_like(model.weight(name))
    for name, reader in structure.read_by(model, kept).items():
        wide = torch.zeros_like(model.weight(name))
        wide[:, reader.inputs] = result.weight(name).detach()
        changed[name] = wide
    if isinstance(structure, Width) and model.anatomy.tied:
        name = f"{model.anatomy.embedding}.weight"
        wide = torch.zeros_like(model.weight(name))
        wide[:, kept] = model.weight(name).detach()[:, kept]
        changed[name] = wide
    return changed


def _unread(model: Model, structure: Structure, kept: Any) -> Iterator[str]:
    """Yield the matrices that add nothing any more: those of layers, attentions, MLPs and experts that are gone."""
    if isinstance(structure, Layer):
        stays = set(kept.tolist())
        for block in model.anatomy.blocks:
            if block.index not in stays:
                yield from (part.weight for part in block.projections.values() if part.role in WRITERS)
    if isinstance(structure, BlockStructure):
        for block, own in zip(structure.owners(model.anatomy), kept, strict=True):
            if isinstance(structure, Expert):
                gone = set(range(block.experts)).difference(own.tolist())
                yield from (block.mlps[number].projections["down"].weight for number in sorted(gone))
            elif not len(own) and structure.present(block):
                yield block.projections["output" if isinstance(structure, Head) else "down"].weight
