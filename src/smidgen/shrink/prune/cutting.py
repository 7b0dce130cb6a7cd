"""How a cut is carried out: in rounds, each of them scored, cut and repaired."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from smidgen import machine
from smidgen.errors import InvalidInput
from smidgen.shrink.prune import criteria
from smidgen.shrink.prune.allocation import allocate
from smidgen.shrink.prune.criteria import Criterion, Evidence, Needs
from smidgen.shrink.prune.repair import FREE_MEMORY_SHARE, repair
from smidgen.shrink.prune.structures import BlockStructure, Structure, WeightStructure

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model
    from smidgen.shrink.prune.prune import Prune
    from smidgen.shrink.statistics import Statistics


def cut_parts(operation: Prune, structure: Structure, model: Model, keep: int, evidence: Evidence) -> tuple[Model, Any]:
    """Remove whole parts, in as many rounds as asked.

    Args:
        operation: What is asked.
        structure: The kind of part.
        model: The model; it stays as it was.
        keep: How many stay, rounded and checked.
        evidence: What there is to go by.

    Returns:
        The smaller model, and the indices of what stays in the model given.
    """
    whole, present = None, structure.size(model.anatomy)
    step = structure.step(model.anatomy)
    for number in range(1, operation.rounds + 1):
        target = keep
        if number < operation.rounds:
            target = present - round((present - keep) * number / operation.rounds) // step * step
            if target >= structure.size(model.anatomy) and not operation.uneven:
                continue
        model, kept = _round(operation, structure, model, target, evidence)
        evidence = replace(evidence, statistics=None)
        if whole is None:
            whole = kept
        elif isinstance(structure, BlockStructure):
            whole = [before[now] for before, now in zip(whole, kept, strict=True)]
        else:
            whole = whole[kept]
    return model, whole


def _round(operation: Prune, structure: Structure, model: Model, keep: int, evidence: Evidence) -> tuple[Model, Any]:
    readers = structure.readers if operation.repair else ()
    needs = operation.needs()
    if structure.watches:
        needs = replace(needs or Needs(), roles=(*(needs.roles if needs else ()), *structure.watches))
    statistics = gathered(model, operation.structure, needs, readers, evidence)
    evidence = replace(evidence, statistics=statistics)
    kept = _chosen(operation, structure, model, keep, evidence)
    result = structure.remove(model, kept)
    if readers and (found := structure.read_by(model, kept)):
        result = repair(model, result, found, evidence.windows, statistics=statistics, progress=evidence.progress)
    if statistics is not None and (readers or structure.watches):
        result = structure.adjusted(model, result, kept, statistics)
    return result, kept


def _chosen(operation: Prune, structure: Structure, model: Model, keep: int, evidence: Evidence) -> Any:
    """Return the indices of what stays."""
    import torch

    criterion = criteria.find(str(operation.criterion))
    if operation.chosen is not None:
        kept = torch.tensor(operation.chosen, dtype=torch.long)
        structure.check(model, kept)
        return kept
    if operation.keep_language is not None:
        return _for_languages(operation, structure, model, keep, evidence)
    if not isinstance(structure, BlockStructure) or not (operation.uneven or operation.allocation):
        return _even(criterion, structure, operation.structure, model, keep, evidence)
    structure.require_uneven(model.anatomy)
    scores = criterion.score(model, operation.structure, evidence)
    counts = operation.allocation or allocate(model, structure, scores, keep, comparable=criterion.comparable)
    return structure.select_each(model, scores, counts)


def _for_languages(operation: Prune, structure: Structure, model: Model, keep: int, evidence: Evidence) -> torch.Tensor:
    """Return the tokens that stay for some languages."""
    from smidgen.shrink.prune.criteria.use import Use
    from smidgen.shrink.prune.languages import default_keep, token_scores

    use = Use().score(model, operation.structure, evidence)
    scores, wanted = token_scores(model, str(operation.keep_language), use)
    if operation.keep is None:
        step, least = structure.step(model.anatomy), structure.least(model)
        keep = max(least, min(default_keep(keep), wanted) // step * step)
        if keep >= structure.size(model.anatomy):
            raise InvalidInput(
                f"All {wanted:,} tokens belong to {operation.keep_language}.", remedy="Say with 'keep' how many stay."
            )
    return structure.select(model, scores, keep)


def _even(
    criterion: Criterion, structure: Structure, name: str, model: Model, keep: int, evidence: Evidence
) -> torch.Tensor:
    if isinstance(structure, BlockStructure):
        return structure.select(model, criterion.score(model, name, evidence), keep)
    return criterion.choose(model, name, keep, evidence)


def gathered(
    model: Model, structure: str, needs: Needs | None, readers: Iterable[str], evidence: Evidence
) -> Statistics | None:
    """Return the figures that criterion and repair read, collected in one pass where memory allows.

    Args:
        model: The model.
        structure: Kind of part, for the gradients of its weights.
        needs: What the criterion reads; None: nothing.
        readers: Roles of the sites whose Hessians the repair reads.
        evidence: The text, and figures that were collected already.
    """
    from smidgen.shrink.prune.criteria._parts import names_of_parts
    from smidgen.shrink.statistics import collect, hessian_bytes

    readers = tuple(readers)
    if needs is None and not readers:
        return evidence.statistics
    needs = needs or Needs()
    sites = site_names(model, {*needs.roles, *readers})
    room = FREE_MEMORY_SHARE * machine.memory()[1]
    hessians = needs.hessians or (bool(readers) and hessian_bytes(model.anatomy, sites) < room)
    gradients = names_of_parts(model.anatomy, model, structure) if needs.gradients else []
    if evidence.statistics is not None and _holds(evidence.statistics, sites, needs, gradients):
        return evidence.statistics
    return collect(
        model,
        evidence.windows,
        sites=sites,
        hessians=hessians,
        preactivations=needs.preactivations,
        gradients=gradients,
        progress=evidence.progress,
    )


def site_names(model: Model, roles: Iterable[str]) -> list[str]:
    """Return the names of the sites of some roles, in the order of their computation."""
    wanted = set(roles)
    return [site.name for site in model.anatomy.sites() if site.name.rpartition(".")[2] in wanted]


def _holds(statistics: Statistics, sites: list[str], needs: Needs, gradients: list[str]) -> bool:
    """Say whether figures that were collected already are all that is needed."""
    return (
        statistics.mean_absolute.keys() >= set(sites)
        and (not needs.hessians or statistics.hessian.keys() >= set(sites))
        and (not needs.preactivations or bool(statistics.relu))
        and statistics.gradient.keys() >= set(gradients)
    )


def cut_weights(operation: Prune, structure: WeightStructure, model: Model, evidence: Evidence) -> Model:
    """Set single weights to zero, in as many rounds as asked.

    Args:
        operation: What is asked.
        structure: Which patterns are allowed.
        model: The model; it stays as it was.
        evidence: What there is to go by.
    """
    from smidgen.shrink.prune.weights import WeightCut, block_sparsities, zero_weights

    criterion = criteria.find(str(operation.criterion))
    for number in range(1, operation.rounds + 1):
        target = structure.sparsity(operation.sparsity or 0.0) * number / operation.rounds
        needs = criterion.needs(operation.structure) or Needs()
        # What the matrices read is looked at while they are pruned; before that only what else is needed.
        before = Needs(gradients=needs.gradients)
        sparsities = [target] * len(model.anatomy.blocks)
        if operation.uneven:
            before = replace(before, roles=("attention_input", "attention_output", "mlp_input", "mlp_hidden"))
        figures = None
        if before.gradients or before.roles:
            figures = gathered(model, operation.structure, before, (), evidence)
        if operation.uneven and figures is not None:
            sparsities = block_sparsities(model, target, figures.second_moment)
        gradients = figures.gradient if figures is not None else {}
        cut = WeightCut(structure, criterion, sparsities, operation.repair, gradients)
        model = zero_weights(model, cut, evidence.windows, evidence.progress)
        evidence = replace(evidence, statistics=None)
    return model
