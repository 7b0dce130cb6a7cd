"""Stand-ins for the attention and the MLP of blocks that have none; imported only where torch is there anyway."""

from __future__ import annotations

from typing import Any

import torch


class NoAttention(torch.nn.Module):
    """Adds nothing to the residual stream where an attention would."""

    def forward(self, hidden_states: torch.Tensor, **_: Any) -> tuple[torch.Tensor, None]:
        """Return zeros, and no attention weights."""
        return torch.zeros_like(hidden_states), None


class NoMlp(torch.nn.Module):
    """Adds nothing to the residual stream where an MLP would."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return zeros."""
        return torch.zeros_like(hidden_states)
