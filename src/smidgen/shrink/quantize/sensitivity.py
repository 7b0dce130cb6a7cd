"""What the output notices: how much KL divergence a small change of each matrix costs.

To second order KL(p‖q) = ½·δᵀFδ with F the Fisher information of the model's own predictions. For a matrix W with
inputs x and output gradients g of log p(y), y drawn from p, F is approximated by Kronecker factors (Martens and
Grosse 2015, arXiv 1503.05671): ½·Σ_i G_i·(ΔW·H·ΔWᵀ)_ii, with G_i = mean g_i² and H = mean x·xᵀ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smidgen.progress import Progress, silent, track
from smidgen.shrink.precision import autocast, exact

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model


@dataclass(frozen=True)
class Sensitivity:
    """The Fisher information of one model, probed on text.

    Attributes:
        outputs: For every matrix of the blocks, mean squared output gradient of each row, ``[rows]``.
        hessians: For every site, mean x·xᵀ of its inputs, ``[width, width]``; ``head`` for the head.
        embedding: Mean g·gᵀ at the embedding's output, ``[hidden, hidden]``.
        token_share: How often each token was read, ``[vocabulary]``, sums to 1.
        head: Mean p·(1−p) of each token, ``[vocabulary]``.
        tokens: How many tokens were probed.
    """

    outputs: Mapping[str, torch.Tensor]
    hessians: Mapping[str, torch.Tensor]
    embedding: torch.Tensor
    token_share: torch.Tensor
    head: torch.Tensor
    tokens: int

    def tied_hessian(self) -> torch.Tensor:
        """Return the Hessian of a matrix that is embedding and head at once, ``[hidden, hidden]``.

        As the head, row i costs ½·head_i·(Δw·H·Δwᵀ); as the embedding, ½·share_i·(Δw·E·Δwᵀ). Both weigh rows
        by how often the token occurs, so one matrix stands for all rows: the mean of both over the tokens read.
        """
        return self.hessians["head"] * self.head.sum() + self.embedding


def probe(model: Model, windows: torch.Tensor, *, seed: int = 0, progress: Progress = silent) -> Sensitivity:
    """Run the model forward and backward over text and collect what `Sensitivity` holds.

    Args:
        model: The model; it is not changed.
        windows: Token ids, int64 ``[windows, length]``; about 2,000 tokens are enough.
        seed: Of the labels drawn from the model's predictions.
        progress: Receives one event per window.
    """
    import torch

    collector = _Collector(model)
    generator = torch.Generator().manual_seed(seed)
    frozen = {name: value.requires_grad for name, value in model.module.named_parameters()}
    model.module.requires_grad_(False)
    try:
        for window in track(windows.split(1), "probing sensitivity", progress, unit="windows"):
            collector.add(window, generator)
    finally:
        collector.remove()
        for name, value in model.module.named_parameters():
            value.requires_grad_(frozen[name])
    return collector.result()


class _Collector:
    """Sums the factors over windows through hooks on the modules."""

    def __init__(self, model: Model) -> None:
        import torch

        self.model, self.tokens = model, 0
        anatomy = model.anatomy
        self.outputs: dict[str, torch.Tensor] = {}
        self.hessians: dict[str, torch.Tensor] = {}
        self.embedding = torch.zeros(anatomy.hidden_size, anatomy.hidden_size)
        self.read = torch.zeros(anatomy.vocabulary_size)
        self.head = torch.zeros(anatomy.vocabulary_size)
        embedding = model.module.get_submodule(anatomy.embedding)
        self.hooks = [embedding.register_forward_hook(self._start_gradients)]
        for site in anatomy.sites():
            first = model.module.get_submodule(site.modules[0])
            self.hooks.append(first.register_forward_pre_hook(self._read_inputs(site.name)))
            for path in site.modules if site.block is not None else ():
                self.hooks.append(model.module.get_submodule(path).register_forward_hook(self._watch_output(path)))

    def _start_gradients(self, module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        output = output.detach().requires_grad_()
        output.register_hook(self._add_embedding_gradient)
        return output

    def _add_embedding_gradient(self, gradient: torch.Tensor) -> None:
        flat = gradient.detach().float().flatten(0, 1)
        with exact():
            self.embedding.addmm_(flat.T, flat)

    def _read_inputs(self, name: str) -> Any:
        def before(module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            import torch

            flat = inputs[0].detach().float().flatten(0, 1)
            total = self.hessians.setdefault(name, torch.zeros(flat.shape[1], flat.shape[1]))
            with exact():
                total.addmm_(flat.T, flat)

        return before

    def _watch_output(self, path: str) -> Any:
        def add(gradient: torch.Tensor) -> None:
            squares = gradient.detach().float().square().flatten(0, 1).sum(0)
            name = f"{path}.weight"
            self.outputs[name] = self.outputs[name] + squares if name in self.outputs else squares

        def after(module: Any, inputs: Any, output: torch.Tensor) -> None:
            output.register_hook(add)

        return after

    def add(self, window: torch.Tensor, generator: torch.Generator) -> None:
        import torch

        with autocast(), torch.enable_grad():
            logits = self.model.module(window, use_cache=False).logits[0]
        with torch.no_grad():
            probabilities = logits.detach().float().softmax(-1)
            drawn = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
            self.head += probabilities.sub(probabilities.square()).sum(0)
            # d log p(drawn) / d logits = one-hot − p.
            probabilities[torch.arange(len(drawn)), drawn] -= 1
        logits.backward(probabilities.to(logits.dtype))
        self.read += torch.bincount(window.flatten(), minlength=len(self.read)).float()
        self.tokens += window.numel()

    def remove(self) -> None:
        for hook in self.hooks:
            hook.remove()

    def result(self) -> Sensitivity:
        count = self.tokens
        return Sensitivity(
            outputs={name: value / count for name, value in self.outputs.items()},
            hessians={name: value / count for name, value in self.hessians.items()},
            embedding=self.embedding / count,
            token_share=self.read / count,
            head=self.head / count,
            tokens=count,
        )
