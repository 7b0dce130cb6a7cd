"""Leaving parts out, quickly: what comes before a part is not computed again, nor what the source says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from smidgen import divergence
from smidgen.shrink.precision import autocast
from smidgen.shrink.statistics import evaluating

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model

CHUNK = 256
MOST_REMEMBERED = 1 << 30
"""Bytes of the source's logits that are kept; where they take more they are computed for every comparison."""


class Chain:
    """The blocks of a model one after another, and what each reads on some text.

    Args:
        model: The model; it stays as it is.
        windows: Token ids, int64 ``[windows, length]``.

    Attributes:
        inputs: What each block reads, ``[windows, length, hidden]``.
        final: What the head reads, ``[tokens, hidden]``.
    """

    def __init__(self, model: Model, windows: torch.Tensor) -> None:
        self.model, self.windows = model, windows.to(model.device)
        self._layers = [model.module.get_submodule(block.path) for block in model.anatomy.blocks]
        self.inputs: list[torch.Tensor] = []
        hooks = [layer.register_forward_pre_hook(self._remember, with_kwargs=True) for layer in self._layers]
        try:
            self.final = self._forward()
        finally:
            for hook in hooks:
                hook.remove()

    def _remember(self, _: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        self.inputs.append(inputs[0] if inputs else named["hidden_states"])

    def without(self, place: int) -> torch.Tensor:
        """Return what the head reads where one block is left out, ``[tokens, hidden]``."""
        return self.again(place + 1, self.inputs[place])

    def again(self, first: int, hidden: torch.Tensor | None = None) -> torch.Tensor:
        """Run the blocks from one on and return what the head reads, ``[tokens, hidden]``.

        Args:
            first: Index of the first block that is computed.
            hidden: What it reads; None: what it read before.
        """
        with self._passed(first, self.inputs[first] if hidden is None else hidden):
            return self._forward()

    @contextmanager
    def _passed(self, first: int, hidden: torch.Tensor) -> Iterator[None]:
        passed = self._layers[:first]
        for layer in passed:
            layer.forward = lambda states, *_, **__: states
        if passed:
            passed[-1].forward = lambda *_, **__: hidden
        try:
            yield
        finally:
            for layer in passed:
                del layer.forward

    def _forward(self) -> torch.Tensor:
        import torch

        with torch.no_grad(), evaluating(self.model), autocast(self.model.device.type):
            states: torch.Tensor = self.model.module.base_model(
                input_ids=self.windows, use_cache=False
            ).last_hidden_state
        return states.flatten(0, 1)


class Judge:
    """Compares what a head makes of hidden states with what it makes of the source's.

    Args:
        model: Whose head is used.
        source: What it reads of the source, ``[tokens, hidden]``.
    """

    def __init__(self, model: Model, source: torch.Tensor) -> None:
        self.model, self.source = model, source
        kept = len(source) * model.anatomy.vocabulary_size * source.element_size() <= MOST_REMEMBERED
        self._known = [self._logits(source, first) for first in range(0, len(source), CHUNK)] if kept else None

    def divergence(self, result: torch.Tensor) -> float:
        """Return the mean KL of source ‖ result in nats per token; ``result`` is ``[tokens, hidden]``."""
        import torch

        total = 0.0
        for number, first in enumerate(range(0, len(self.source), CHUNK)):
            ours = self._known[number] if self._known else self._logits(self.source, first)
            total += float(divergence.kl(ours, self._logits(result, first)).sum(dtype=torch.float64))
        return total / len(self.source)

    def _logits(self, states: torch.Tensor, first: int) -> torch.Tensor:
        import torch

        anatomy = self.model.anatomy
        head = self.model.module.get_submodule(anatomy.head)
        with torch.no_grad(), autocast(self.model.device.type):
            return anatomy.logits(head(states[first : first + CHUNK]))
