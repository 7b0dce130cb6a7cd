"""How the cross-entropy changes with what the token embedding gives, without ever holding all logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from smidgen.shrink.precision import exact

if TYPE_CHECKING:
    import torch

CHUNK = 64


@dataclass(frozen=True)
class Head:
    """What makes logits of hidden states.

    Attributes:
        weight: ``[vocabulary, hidden]``.
        bias: ``[vocabulary]`` or None.
        finish: What the model does to the head's output.
        dtype: Type of the matrix product.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    finish: Callable[[torch.Tensor], torch.Tensor]
    dtype: torch.dtype

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return float32 logits ``[tokens, vocabulary]``."""
        raw = (hidden.to(self.dtype) @ self.weight.to(self.dtype).T).float()
        return self.finish(raw if self.bias is None else raw + self.bias.float())


@contextmanager
def slopes_at(module: Any, path: str) -> Iterator[list[torch.Tensor]]:
    """Make what the token embedding gives the end of all slopes while the block runs; it is put into the list."""
    found: list[torch.Tensor] = []

    def mark(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
        found.append(output if output.requires_grad else output.detach().requires_grad_())
        return found[-1]

    handle = module.get_submodule(path).register_forward_hook(mark)
    try:
        yield found
    finally:
        handle.remove()


def by_embedding(
    embedded: torch.Tensor, hidden: torch.Tensor, targets: torch.Tensor, head: Head, *, twice: bool
) -> torch.Tensor:
    """Return the gradient by the embeddings, float32 of their shape, of the mean cross-entropy of some tokens.

    Args:
        embedded: What the token embedding gave, ``[rows, length, width]``.
        hidden: What the head reads of the tokens, ``[tokens, hidden]``, computed from it.
        targets: Their next tokens in the head's columns, int64 ``[tokens]``; −1 does not count.
        head: Makes the logits.
        twice: Whether the result is derived again.
    """
    import torch

    if len(targets) == 0:
        return torch.zeros_like(embedded, dtype=torch.float32) + hidden.float().sum() * 0
    by_hidden = _function().apply(hidden, head.weight, head.bias, targets, head)
    (found,) = torch.autograd.grad(hidden, embedded, by_hidden, create_graph=twice, retain_graph=twice)
    return found.float()


def _chunk(hidden: torch.Tensor, head: Head, targets: torch.Tensor, *, twice: bool) -> torch.Tensor:
    import torch
    import torch.nn.functional as functional

    loss = functional.cross_entropy(head.logits(hidden), targets, reduction="sum", ignore_index=-1)
    return torch.autograd.grad(loss, hidden, create_graph=twice)[0]


@cache
def _function() -> Any:
    """Return the gradient of the mean cross-entropy by the hidden states as a function that can be derived."""
    import torch

    class HeadSlope(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, hidden: Any, weight: Any, bias: Any, targets: Any, head: Head) -> Any:
            ctx.save_for_backward(hidden, weight, bias, targets)
            ctx.head = head
            found = torch.empty_like(hidden)
            narrow = Head(weight.detach().to(head.dtype), bias, head.finish, head.dtype)
            with exact(hidden.device.type), torch.enable_grad():
                for start in range(0, len(hidden), CHUNK):
                    part = slice(start, start + CHUNK)
                    read = hidden[part].detach().requires_grad_()
                    found[part] = _chunk(read, narrow, targets[part], twice=False)
            return found / len(hidden)

        @staticmethod
        def backward(ctx: Any, slope: Any) -> Any:
            hidden, weight, bias, targets = ctx.saved_tensors
            head, wanted = ctx.head, ctx.needs_input_grad
            leaves = {
                name: value.detach().to(head.dtype).requires_grad_()
                for name, value in (("weight", weight), ("bias", bias))
                if value is not None
            }
            sums = {name: torch.zeros_like(value, dtype=torch.float32) for name, value in leaves.items()}
            by_hidden = torch.zeros_like(hidden)
            with exact(hidden.device.type), torch.enable_grad():
                own = Head(leaves["weight"], leaves.get("bias"), head.finish, head.dtype)
                for start in range(0, len(hidden), CHUNK):
                    part = slice(start, start + CHUNK)
                    read = hidden[part].detach().requires_grad_()
                    product = (_chunk(read, own, targets[part], twice=True) * slope[part]).sum() / len(hidden)
                    by_hidden[part], *found = torch.autograd.grad(product, [read, *leaves.values()])
                    for total, one in zip(sums.values(), found, strict=True):
                        total += one
            by_weight = sums["weight"].to(weight.dtype) if wanted[1] else None
            by_bias = sums["bias"].to(bias.dtype) if bias is not None and wanted[2] else None
            return by_hidden, by_weight, by_bias, None, None

    return HeadSlope
