"""Losses of outputs, a chunk of tokens at a time, with the head's backward pass inside the chunk.

Only ``chunk`` rows of logits exist at any moment: their gradient is turned at once into the gradients of the
hidden states and of the head's weight, which the backward pass then only scales.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from smidgen.shrink.precision import exact

if TYPE_CHECKING:
    import torch

CHUNK, CHUNK_BYTES = 256, 64 << 20
"""Tokens whose slopes are turned into gradients at once, or as many more as take these bytes: each time the head's
large gradient is read and written once."""

SLICE = 64
"""Tokens whose losses are computed at once: their float32 logits stay near the processor's cache."""

PerToken = Callable[["torch.Tensor", int, int], "torch.Tensor"]
"""Called with logits of the tokens from start to stop, float32 ``[tokens, vocabulary]``; returns ``[tokens]``."""


def mean_through_head(
    hidden: torch.Tensor, head: Any, per_token: PerToken, *, dtype: torch.dtype, chunk: int = 0
) -> torch.Tensor:
    """Return the mean over tokens of a loss of logits, without ever holding all logits.

    Args:
        hidden: What the head reads, ``[tokens, hidden]``.
        head: The linear layer that makes logits, ``weight`` ``[vocabulary, hidden]`` and ``bias`` or None.
        per_token: The loss.
        dtype: Type of the matrix products; losses are computed in float32.
        chunk: Tokens at a time; 0: as many as are fast.
    """
    import torch

    chunk = chunk or max(CHUNK, CHUNK_BYTES // (dtype.itemsize * len(head.weight)) // SLICE * SLICE)
    if torch.is_grad_enabled():
        total: torch.Tensor = _function().apply(hidden, head.weight, head.bias, per_token, dtype, chunk)
        return total
    with exact(hidden.device.type):
        weight, sums = head.weight.to(dtype), hidden.new_zeros((), dtype=torch.float64)
        for start in range(0, len(hidden), SLICE):
            stop = min(start + SLICE, len(hidden))
            logits = _logits(hidden[start:stop].to(dtype), weight, head.bias)
            sums += per_token(logits, start, stop).sum(dtype=torch.float64)
        return (sums / max(1, len(hidden))).float()


def _logits(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    logits = (hidden @ weight.T).float()
    return logits if bias is None else logits + bias.float()


def _slopes(
    read: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, per_token: PerToken, first: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the gradient of the summed loss by a chunk's logits, in the type of ``read``, and the sum itself."""
    import torch

    slopes = torch.empty(len(read), len(weight), dtype=read.dtype, device=read.device)
    total = torch.zeros((), dtype=torch.float64, device=read.device)
    for start in range(0, len(read), SLICE):
        stop = min(start + SLICE, len(read))
        logits = _logits(read[start:stop], weight, bias).requires_grad_()
        with torch.enable_grad():
            loss = per_token(logits, first + start, first + stop).sum()
        slopes[start:stop] = torch.autograd.grad(loss, logits)[0]
        total += loss.detach()
    return slopes, total


def _gradients(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    per_token: PerToken,
    options: tuple[torch.dtype, int, tuple[bool, ...]],
) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
    """Return the mean loss and its gradients by hidden states, weight and bias (None where not wanted)."""
    import torch

    dtype, chunk, wanted = options
    narrow, count = weight.to(dtype), max(1, len(hidden))
    total = hidden.new_zeros((), dtype=torch.float64)
    by_hidden = torch.zeros_like(hidden) if wanted[0] else None
    by_weight = None if len(hidden) or not wanted[1] else torch.zeros_like(weight, dtype=torch.float32)
    by_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and wanted[2] else None
    for start in range(0, len(hidden), chunk):
        read = hidden[start : start + chunk].to(dtype)
        slopes, loss = _slopes(read, narrow, bias, per_token, start)
        total += loss / count
        slopes /= count
        if by_bias is not None:
            by_bias += slopes.sum(0, dtype=torch.float32)
        if by_hidden is not None:
            by_hidden[start : start + chunk] = slopes @ narrow
        if wanted[1]:
            product = slopes.T @ read
            by_weight = product.float() if by_weight is None else by_weight.add_(product)
    return total.float(), [by_hidden, by_weight, by_bias]


@cache
def _function() -> Any:
    import torch

    class HeadLoss(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, hidden: Any, weight: Any, bias: Any, per_token: Any, dtype: Any, chunk: Any) -> Any:
            with exact(hidden.device.type):
                wanted = ctx.needs_input_grad[:3]
                total, gradients = _gradients(hidden, weight, bias, per_token, (dtype, chunk, wanted))
            ctx.gradients, ctx.types = gradients, (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
            return total

        @staticmethod
        def backward(ctx: Any, slope: Any) -> Any:
            scaled = [
                None if gradient is None else (gradient if float(slope) == 1 else gradient * slope).to(dtype)
                for gradient, dtype in zip(ctx.gradients, ctx.types, strict=True)
            ]
            ctx.gradients = None
            return (*scaled, None, None, None)

    return HeadLoss
