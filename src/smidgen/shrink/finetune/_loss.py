"""The fine-tuning loss of packed rows: the next token's cross-entropy, each document by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from smidgen.data.packing import SHARED
from smidgen.shrink.precision import working_type
from smidgen.shrink.training.head import mean_through_head

if TYPE_CHECKING:
    import torch

    from smidgen.data.packing import PackedRows
    from smidgen.models.model import Model

Weights = Callable[[], "Mapping[str, torch.Tensor]"]
"""Returns the weights to compute with instead of the module's own, by state-dictionary name."""

EVALUATED_ROWS = 4
"""Rows that are evaluated at once."""


def visible(segments: torch.Tensor) -> torch.Tensor:
    """Say which tokens each token sees: those before it of its own document and of what all documents begin with.

    Args:
        segments: Of packed rows, ``[rows, tokens]``.

    Returns:
        Truth values ``[rows, tokens, tokens]``, the seeing token first.

    Example:
        >>> import torch
        >>> visible(torch.tensor([[SHARED, 0, 1]])).int().tolist()
        [[[1, 0, 0], [1, 1, 0], [1, 0, 1]]]
    """
    same = segments[:, :, None] == segments[:, None, :]
    return (same | (segments == SHARED)[:, None, :]).tril()


class PackedLoss:
    """The mean loss of some rows; callable as the loop wants it.

    Documents of one row do not see each other: their positions begin anew, by which the model's attention keeps to
    one document, and a document's first token is no target. Where documents share their beginning, a mask says so.

    Args:
        model: Whose module is trained in place.
        rows: What it learns from.
        weights: Stand-ins for its weights in every forward pass; None: its own.
    """

    def __init__(self, model: Model, rows: PackedRows, weights: Weights | None = None) -> None:
        import torch

        self.model, self.rows, self.weights = model, rows, weights
        self.dtype = working_type() if model.device.type == "cpu" else torch.bfloat16

    def __call__(self, module: Any, rows: torch.Tensor, step: int) -> tuple[torch.Tensor, int]:
        """Return the mean loss of the rows' targets and their count."""
        import torch.nn.functional as functional

        width = int((self.rows.segments[rows] >= 0).any(0).nonzero().max()) + 1
        device = self.model.device
        ids, positions = (each[rows, :width].to(device) for each in (self.rows.ids, self.rows.positions))
        read, head = self._read(ids, positions, self._mask(self.rows.segments[rows, :width].to(device)))
        targets = ids[:, 1:].flatten()
        which = self.rows.supervised[rows, 1:width].flatten().nonzero().flatten().to(device)
        wanted, anatomy = targets[which], self.model.anatomy

        def per_token(scores: torch.Tensor, start: int, stop: int) -> torch.Tensor:
            return functional.cross_entropy(anatomy.logits(scores), wanted[start:stop], reduction="none")

        return mean_through_head(read[which], head, per_token, dtype=self.dtype), len(which)

    def evaluate(self, module: Any) -> float:
        """Return the mean loss of all rows."""
        import torch

        total, count = 0.0, 0
        for rows in torch.split(torch.arange(len(self.rows.ids)), EVALUATED_ROWS):
            mean, tokens = self(module, rows, 0)
            total, count = total + float(mean) * tokens, count + tokens
        return total / max(1, count)

    def _mask(self, segments: torch.Tensor) -> torch.Tensor | None:
        """Return what attention needs to be told, ``[rows, 1, tokens, tokens]``; None where positions say it all."""
        import torch

        if not bool((segments == SHARED).any()):
            return None
        seen = visible(segments)[:, None]
        if self.model.module.config._attn_implementation != "eager":
            return seen
        return torch.zeros(seen.shape, device=seen.device).masked_fill(~seen, torch.finfo(torch.float32).min)

    def _read(self, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, Any]:
        """Return what the head reads ``[tokens, hidden]``, the rows' last places left out, and the head."""
        import torch

        anatomy, asked = self.model.anatomy, {"input_ids": ids, "position_ids": positions, "use_cache": False}
        asked |= {} if mask is None else {"attention_mask": mask}
        body, head = self.model.module.base_model, self.model.module.get_submodule(anatomy.head)
        if self.weights is None:
            hidden = body(**asked).last_hidden_state
        else:
            instead = self.weights()
            prefix = f"{self.model.module.base_model_prefix}."
            inner = {name.removeprefix(prefix): each for name, each in instead.items() if name.startswith(prefix)}
            hidden = torch.func.functional_call(body, inner, (), asked).last_hidden_state
            own = f"{anatomy.embedding if anatomy.tied else anatomy.head}.weight"
            head = SimpleNamespace(weight=instead.get(own, head.weight), bias=head.bias)
        return hidden[:, :-1].reshape(-1, hidden.shape[-1]), head
