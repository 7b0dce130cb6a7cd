"""Keeps an adapter from filling weights that were pruned, while it is trained and when it is merged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from smidgen.errors import Unsupported

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model


def pruned_places(model: Model, paths: Iterable[str]) -> dict[str, torch.Tensor]:
    """Return where the matrices of linear layers are zero because single weights were pruned, bool ``[out, in]``.

    Nothing is returned for a model of which no single weights were pruned: its zeros are values like others.
    """
    if not model.lineage.has_pruned_weights:
        return {}
    return {path: model.module.get_submodule(path).weight.detach() == 0 for path in paths}


def keep_zeros(module: Any, zeros: Mapping[str, torch.Tensor]) -> None:
    """Let the adapter that PEFT put on a module change only weights that are not pruned, in place.

    A layer then computes W·x + (M ⊙ s·B·A)·x with M zero where W was pruned, as the merged layer does.

    Args:
        module: A module with LoRAs on it.
        zeros: By the path of each layer, where its weights were pruned.
    """
    for path, zero in zeros.items():
        layer = module.get_submodule(path)
        layer.forward = _masked_forward(layer, zero)


def _masked_forward(layer: Any, zero: torch.Tensor) -> Any:
    from torch.nn.functional import linear

    (name,) = layer.active_adapters

    def forward(inputs: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        first, second = layer.lora_A[name].weight, layer.lora_B[name].weight
        change = (second @ first * layer.scaling[name]).masked_fill(zero.to(second.device), 0.0)
        result: torch.Tensor = layer.base_layer(inputs, *arguments, **options)
        return result + linear(layer.lora_dropout[name](inputs.to(change.dtype)), change).to(result.dtype)

    return forward


def require_keepable(model: Model, *, apart: bool = False, decomposed: bool = False) -> None:
    """Refuse adapters that would fill pruned weights.

    Args:
        model: What they are trained on.
        apart: Whether they are to be put on where nothing knows of the zeros.
        decomposed: Whether they are DoRAs.

    Raises:
        Unsupported: They would.
    """
    if not model.lineage.has_pruned_weights or not (apart or decomposed):
        return
    kind = "An adapter that is kept apart" if apart else "A DoRA"
    raise Unsupported(
        f"{kind} fills the weights that were pruned, and single weights of this model were.",
        remedy="Train a LoRA and let it be merged: it leaves them zero.",
    )
