"""Experts apart."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


class Expert(nn.Module):
    """A gated MLP.

    Args:
        gate_up: Weights of gate and up, ``[2·neurons, hidden]``; copied.
        down: Weights of down, ``[hidden, neurons]``; copied.
        activation: Applied to what the gate gives.
    """

    def __init__(
        self, gate_up: torch.Tensor, down: torch.Tensor, activation: Callable[[torch.Tensor], torch.Tensor]
    ) -> None:
        super().__init__()
        gate, up = gate_up.chunk(2)
        self.gate_proj, self.up_proj, self.down_proj = _linear(gate), _linear(up), _linear(down)
        self.activation = activation

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return ``[tokens, hidden]`` for tokens of the same shape."""
        output: torch.Tensor = self.down_proj(
            self.activation(self.gate_proj(hidden_states)) * self.up_proj(hidden_states)
        )
        return output


class Experts(nn.ModuleList):
    """Experts that are computed one after another, each on the tokens routed to it.

    Args:
        gate_up: Weights of gate and up of all experts, ``[experts, 2·neurons, hidden]``.
        down: Weights of down, ``[experts, hidden, neurons]``.
        activation: Applied to what the gates give.
    """

    def __init__(
        self, gate_up: torch.Tensor, down: torch.Tensor, activation: Callable[[torch.Tensor], torch.Tensor]
    ) -> None:
        super().__init__(Expert(one, two, activation) for one, two in zip(gate_up, down, strict=True))

    def forward(self, hidden_states: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Add up what the experts give.

        Args:
            hidden_states: ``[tokens, hidden]``.
            chosen: Numbers of each token's experts, int64 ``[tokens, used]``.
            weights: What each expert's output is multiplied by, ``[tokens, used]``.

        Returns:
            ``[tokens, hidden]``.
        """
        total = torch.zeros_like(hidden_states)
        for number, expert in enumerate(self):
            tokens, places = torch.where(chosen == number)
            if len(tokens):
                output = expert(hidden_states[tokens]) * weights[tokens, places, None]
                total = total.index_add(0, tokens, output.to(total.dtype))
        return total


def _linear(weight: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(weight.detach().clone())
    return layer
