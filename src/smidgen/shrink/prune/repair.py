"""Least-squares repair: the layers that read what was removed take over its share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from smidgen import machine
from smidgen.errors import InvalidInput
from smidgen.progress import Progress, silent, track
from smidgen.shrink.prune.structures._rebuild import packed_without, rebuild

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model
    from smidgen.shrink.statistics import Statistics

DAMPING = 0.01
FREE_MEMORY_SHARE = 0.5


@dataclass(frozen=True)
class Reader:
    """A matrix that reads what was removed.

    Attributes:
        site: Name of the site whose inputs it reads.
        inputs: The inputs that stay, int64 ``[k]``, rising.
    """

    site: str
    inputs: torch.Tensor


def least_squares_update(
    weight: torch.Tensor, hessian: torch.Tensor, kept: torch.Tensor, damping: float = DAMPING
) -> torch.Tensor:
    """Return the weights on the kept inputs S that change a linear layer's output least.

    Minimises ‖W X − W' X_S‖² / n + λ‖W' − W_S‖², so W' = W_S + W_R H_RS (H_SS + λI)⁻¹ with R the removed inputs
    and H = X Xᵀ / n. As λ goes to 0 this is W X X_Sᵀ (X_S X_Sᵀ)⁻¹; as λ grows it goes to plain slicing, W_S. On the
    text that H was collected on it never does worse than slicing, whatever λ.

    Args:
        weight: ``[out, in]``.
        hessian: ``[in, in]``.
        kept: int64 indices of the inputs that stay, ``[k]``.
        damping: λ in relation to the mean diagonal of H_SS; raised tenfold as often as the system needs.

    Returns:
        ``[out, k]`` in the weight's type and place, computed in float64 on the CPU.

    Raises:
        InvalidInput: The Hessian holds values that are not finite, or the damping is not positive.

    Example:
        >>> import torch
        >>> twins = torch.ones(2, 2)  # both inputs always carry the same value: the kept one takes over
        >>> least_squares_update(torch.tensor([[1.0, 2.0]]), twins, torch.tensor([0]), 1e-9).tolist()
        [[3.0]]
    """
    import torch

    if damping <= 0:
        raise InvalidInput(f"The damping of the repair is {damping}, and must be above 0.")
    matrix = hessian.detach().cpu().double()
    if not bool(matrix.isfinite().all()):
        raise InvalidInput("The calibration statistics hold values that are not finite.")
    full, kept = weight.detach().cpu().double(), kept.cpu()
    removed = torch.ones(len(matrix), dtype=torch.bool).index_fill_(0, kept, False).nonzero().flatten()
    sliced, inner = full[:, kept], matrix[kept][:, kept]
    scale = float(inner.diag().mean())
    if scale <= 0:
        return sliced.to(weight)
    cross = full[:, removed] @ matrix[removed][:, kept]
    factor = torch.linalg.cholesky_ex(inner + damping * scale * torch.eye(len(kept), dtype=torch.float64))
    while int(factor.info):
        damping *= 10
        factor = torch.linalg.cholesky_ex(inner + damping * scale * torch.eye(len(kept), dtype=torch.float64))
    return (sliced + torch.cholesky_solve(cross.T, factor.L).T).to(weight)


def output_error(weight: torch.Tensor, hessian: torch.Tensor, kept: torch.Tensor, update: torch.Tensor) -> float:
    """Return the mean squared change of a layer's output when ``update`` reads the kept inputs, summed over outputs.

    Args:
        weight: The weights before, ``[out, in]``.
        hessian: X Xᵀ / n, ``[in, in]``.
        kept: int64 indices of the inputs that stay, ``[k]``.
        update: The weights after, ``[out, k]``.
    """
    change = weight.detach().cpu().double().clone()
    change[:, kept.cpu()] -= update.detach().cpu().double()
    return float(((change @ hessian.cpu().double()) * change).sum())


def repair(
    model: Model,
    pruned: Model,
    readers: Mapping[str, Reader],
    calibration: torch.Tensor,
    *,
    statistics: Statistics | None = None,
    progress: Progress = silent,
) -> Model:
    """Replace the matrices that read what was removed by their least-squares update.

    The result shares its other weights with ``pruned``, which is used up by it.

    Args:
        model: The model before.
        pruned: The model after; its matrices are those of ``model``, cut. Rows that were cut of a reader as well
            are cut of its update.
        readers: Which matrices read it, by the weight's name.
        calibration: Tokens, ``[windows, length]``.
        statistics: The Hessians of the readers' sites where they were collected already; None: collected here, as
            many at a time as half of the free memory holds.
        progress: Receives reports.
    """
    by_site: dict[str, list[str]] = {}
    for name, reader in readers.items():
        by_site.setdefault(reader.site, []).append(name)
    weights = {}
    for group, hessians in _hessians(model, list(by_site), calibration, statistics, progress):
        for site in track(group, "repairing", progress, unit="sites"):
            for name in by_site[site]:
                update = least_squares_update(model.weight(name), hessians[site], readers[name].inputs)
                weights[name] = update
    module = rebuild(pruned, pruned.config, dict(pruned.module.state_dict()) | weights)
    return replace(pruned, module=module, packed=packed_without(pruned, weights))


def _hessians(
    model: Model, sites: list[str], calibration: torch.Tensor, statistics: Statistics | None, progress: Progress
) -> Iterator[tuple[list[str], dict[str, torch.Tensor]]]:
    """Yield names of sites with their Hessians."""
    from smidgen.shrink.statistics import collect, hessian_bytes

    if statistics is not None and statistics.hessian.keys() >= set(sites):
        yield sites, statistics.hessian
        return
    share = FREE_MEMORY_SHARE * machine.memory()[1]
    group: list[str] = []
    for index, site in enumerate(sites):
        group.append(site)
        following = [*group, *sites[index + 1 : index + 2]]
        if index + 1 < len(sites) and hessian_bytes(model.anatomy, following) <= share:
            continue
        yield group, collect(model, calibration, sites=group, hessians=True, progress=progress).hessian
        group = []
