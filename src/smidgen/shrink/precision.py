"""Which number type the arithmetic of shrinking runs in."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@cache
def _fast_bfloat16() -> bool:
    from smidgen import machine

    return machine.inspect().fast_bfloat16


def autocast(device: str = "cpu") -> AbstractContextManager[None]:
    """Run matrix products in bfloat16 where the device multiplies it in hardware, in float32 elsewhere.

    Args:
        device: Type of the device the model is on, ``cpu`` or ``cuda``.
    """
    import torch

    enabled = device != "cpu" or _fast_bfloat16()
    return torch.autocast(device, dtype=torch.bfloat16, enabled=enabled)


def exact(device: str = "cpu") -> AbstractContextManager[None]:
    """Leave `autocast` for sums that need float32."""
    import torch

    return torch.autocast(device, enabled=False)


def working_type() -> torch.dtype:
    """Return bfloat16 where it is fast, else float32."""
    import torch

    return torch.bfloat16 if _fast_bfloat16() else torch.float32
