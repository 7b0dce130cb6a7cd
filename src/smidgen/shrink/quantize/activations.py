"""Making a model fit for activations of 8 bits: outliers moved into the weights, and scales from calibration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from smidgen.errors import InvalidInput
from smidgen.models.model import Model
from smidgen.progress import Progress, silent, track
from smidgen.shrink.quantize import folding

if TYPE_CHECKING:
    import torch

    from smidgen.models.anatomy import Block

SMALLEST = 1e-5


def greatest_inputs(model: Model, windows: torch.Tensor, progress: Progress = silent) -> dict[str, torch.Tensor]:
    """Return the greatest size that every input channel of every linear layer took, float32 [in], by module path.

    Args:
        model: What is run; not changed.
        windows: Token ids, int64 [windows, length].
        progress: Receives reports.
    """
    import torch

    found: dict[str, torch.Tensor] = {}
    paths = [path for site in model.anatomy.sites() for path in site.modules]
    with _watching(model, paths, found), torch.no_grad():
        for window in track(windows, "watching activations", progress, unit="windows"):
            model.module(input_ids=window[None], use_cache=False, logits_to_keep=1)
    return found


@contextmanager
def _watching(model: Model, paths: Sequence[str], found: dict[str, torch.Tensor]) -> Iterator[None]:
    def watch(path: str) -> Any:
        def before(module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            sizes = inputs[0].detach().float().reshape(-1, inputs[0].shape[-1])
            if len(sizes):
                highest = sizes.abs().amax(0)
                found[path] = highest.maximum(found[path]) if path in found else highest

        return before

    hooks = [model.module.get_submodule(path).register_forward_pre_hook(watch(path)) for path in paths]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def smoothed(model: Model, windows: torch.Tensor, *, strength: float = 0.5, progress: Progress = silent) -> Model:
    """Move outliers of the activations into the weights, where they are rounded more easily (SmoothQuant).

    Input channel j of the layers behind a norm is divided by s_j = max|X_j|**strength / max|W_j|**(1 - strength), in
    the norm's weight, and the column j of the layers is multiplied by it; what feeds an MLP's last layer likewise in
    the rows of its up projection; experts stay as they are. The model computes the same as before. Source:
    SmoothQuant, arXiv 2211.10438.

    Args:
        model: Not changed.
        windows: Calibration text, int64 [windows, length].
        strength: How much of the difficulty moves, 0 to 1.
        progress: Receives reports.

    Raises:
        InvalidInput: The strength is out of range.

    Example:
        model = smoothed(model, windows, strength=0.5)
    """
    if not 0 <= strength <= 1:
        raise InvalidInput(f"The strength of smoothing is {strength}, expected 0 to 1.")
    import torch

    highest, result = greatest_inputs(model, windows, progress), model.clone()
    with torch.no_grad():
        for norm, modules in folding.norms_alone(result).values():
            folding.divide_norm(result, norm, _factor(result, modules, highest, strength))
        for block in result.anatomy.blocks:
            if not block.experts and {"up", "down"} <= set(block.projections):
                _smooth_mlp(result, block, highest, strength)
    return replace(result, packed={}).with_step("smooth", strength=strength)


def _smooth_mlp(model: Model, block: Block, highest: Mapping[str, torch.Tensor], strength: float) -> None:
    """Divide what the up projection gives by what the columns of the down projection are multiplied by."""
    down, up = block.projections["down"], block.projections["up"]
    factor = _factor(model, [down.path], highest, strength)
    first, last = up.rows or (0, len(model.weight(up.weight)))
    model.weight(up.weight)[first:last] /= factor[:, None]
    bias = model.module.get_submodule(up.path).bias
    if bias is not None:
        bias[first:last] /= factor


def _factor(model: Model, paths: Sequence[str], highest: Mapping[str, torch.Tensor], strength: float) -> torch.Tensor:
    """Return what a site's inputs are divided by, [in], and multiply the columns of its layers by it."""
    import torch

    weights = [model.weight(f"{path}.weight") for path in paths]
    sizes = torch.stack([weight.float().abs().amax(0) for weight in weights]).amax(0).clamp(min=SMALLEST)
    inputs = highest[paths[0]].clamp(min=SMALLEST)
    factor = (inputs**strength / sizes ** (1 - strength)).clamp(min=SMALLEST)
    for weight in weights:
        weight *= factor
    return factor


def with_static_scales(model: Model, windows: torch.Tensor, progress: Progress = silent) -> Model:
    """Give every packed matrix the greatest size of its layer's inputs, so that their scale need not be found later.

    Args:
        model: A quantised model; not changed.
        windows: Calibration text, int64 [windows, length].
        progress: Receives reports.

    Raises:
        InvalidInput: No matrix is packed.
    """
    if not model.packed:
        raise InvalidInput("No matrix of this model is packed.", remedy="Quantize it first: --format integer:group=0.")
    highest = greatest_inputs(model, windows, progress)
    anatomy = model.anatomy
    tied = {f"{anatomy.embedding}.weight": anatomy.head} if anatomy.tied else {}
    packed = {
        name: replace(stored, inputs=float(highest[path].max()))
        if (path := tied.get(name, name.removesuffix(".weight"))) in highest
        else stored
        for name, stored in model.packed.items()
    }
    return replace(model, packed=packed).with_step("static_activations", tokens=windows.numel())
