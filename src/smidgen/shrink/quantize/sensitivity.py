"""What the output notices: how much KL divergence a small change of each matrix costs.

To second order KL(p‖q) = ½·δᵀFδ with F the Fisher information of the model's own predictions. For a matrix W with
inputs x and output gradients g of log p(y), y drawn from p, F is approximated by Kronecker factors (Martens and
Grosse 2015, arXiv 1503.05671): ½·Σ_i G_i·(ΔW·H·ΔWᵀ)_ii, with G_i = mean g_i² and H = mean x·xᵀ.

Reading the weights costs too: on processors llama.cpp rounds the inputs of a product to 8 bits, with a scale for as
many inputs as a block of the weights has. With errors e of the inputs, and Wᵀg the gradient that reaches them, that is
½·Σ_j (Wᵀg)_j²·e_j².
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from smidgen import divergence
from smidgen.errors import InvalidInput
from smidgen.models.anatomy import MLP_ROLES
from smidgen.models.streamed import StreamedModel
from smidgen.progress import Progress, silent, track
from smidgen.shrink.hessian import inverse_factor
from smidgen.shrink.precision import autocast, exact

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model


PROBED_WINDOWS, GRADED_WINDOWS = 8, 4
INPUT_BLOCKS, INPUT_LEVELS = (32, 256), 127
"""How many inputs share a scale where llama.cpp rounds them to 8 bits, and the greatest of their codes."""
NOISE = 0.004
"""Squared size of the rounding errors that `factors` injects, relative to the weights: about what 4 bits leave."""


@dataclass(frozen=True)
class Sensitivity:
    """The Fisher information of one model, probed on text.

    Attributes:
        outputs: For every matrix of the blocks, mean squared output gradient of each row, ``[rows]``.
        hessians: For every site, mean x·xᵀ of its inputs, ``[width, width]``; for ``head`` each token counts by
            how uncertain its prediction is, see `head_moments`.
        embedding: Mean g·gᵀ for the embedding's rows, before they are scaled, ``[hidden, hidden]``.
        token_share: How often each token was read, ``[vocabulary]``, sums to 1.
        head: Share of each row of the head in its cost, mean p·(1−p), ``[vocabulary]``, sums to 1.
        inputs: For every matrix that is multiplied, what rounding its inputs to 8 bits costs in nats per token, by how
            many inputs share a scale (`INPUT_BLOCKS`).
        tokens: How many tokens were probed.
    """

    outputs: Mapping[str, torch.Tensor]
    hessians: Mapping[str, torch.Tensor]
    embedding: torch.Tensor
    token_share: torch.Tensor
    head: torch.Tensor
    inputs: Mapping[str, Mapping[int, float]]
    tokens: int
    _factors: dict[int, torch.Tensor] = field(default_factory=dict, repr=False, compare=False)

    def inverse_factor(self, hessian: torch.Tensor) -> torch.Tensor:
        """Return `inverse_factor` of one of this model's Hessians, worked out once for all that read one input."""
        key = hessian.data_ptr()
        if key not in self._factors:
            self._factors[key] = inverse_factor(hessian)
        return self._factors[key]

    @cached_property
    def tied_hessian(self) -> torch.Tensor:
        """Return the Hessian of a matrix that is embedding and head at once, ``[hidden, hidden]``.

        As the head, row i costs ½·head_i·(Δw·H·Δwᵀ); as the embedding, ½·share_i·(Δw·E·Δwᵀ). Both weigh rows
        by how often the token occurs, so one matrix stands for all rows.
        """
        return self.hessians["head"] + self.embedding


def rounded_inputs(inputs: torch.Tensor, block: int) -> torch.Tensor:
    """Return the squared errors of inputs ``[…, width]`` that are rounded to 8 bits, ``block`` of them to a scale.

    Example:
        >>> import torch
        >>> rounded_inputs(torch.tensor([[127.0, 0.25, 1.0, 0.25]]), 2).tolist()[0][:2]
        [0.0, 0.0625]
    """
    blocks = inputs.float().reshape(-1, block)
    scales = (blocks.abs().amax(1, keepdim=True) / INPUT_LEVELS).clamp_min(1e-30)
    return (blocks / scales).round_().mul_(scales).sub_(blocks).square_().view(inputs.shape)


def head_moments(model: Model, windows: torch.Tensor, *, progress: Progress = silent) -> torch.Tensor:
    """Return what the head's errors cost, Σ_i p_i·(1−p_i)·x·xᵀ on average, ``[hidden, hidden]``.

    The second-order KL divergence of a change Δz of the logits is half their variance under p, and Δz = ΔW·x:
    where the model is sure of the next token, an error of the head does no harm.

    Args:
        model: The model.
        windows: Token ids, int64 ``[windows, length]``; of a streamed model all are run at once.
        progress: Receives one event per window.
    """
    import torch

    total = torch.zeros(model.anatomy.hidden_size, model.anatomy.hidden_size)
    anatomy = model.anatomy
    with torch.no_grad(), autocast():
        if isinstance(model, StreamedModel):
            head, states = model.head(), list(model.hidden(windows))
        else:
            head, states = model.module.get_submodule(anatomy.head), None
    with torch.no_grad():
        for number in track(range(len(windows)), "weighing the head", progress, unit="windows"):
            with autocast():
                if states is None:
                    hidden = model.module.base_model(windows[number : number + 1], use_cache=False).last_hidden_state[0]
                else:
                    hidden = states[number]
                logits = anatomy.logits(head(hidden).float())
            with exact():
                _add_uncertain(total, hidden.float(), logits.softmax(-1), anatomy.logit_slopes(logits))
    return total / windows.numel()


def _add_uncertain(
    total: torch.Tensor, hidden: torch.Tensor, probabilities: torch.Tensor, slopes: torch.Tensor | float
) -> None:
    """Add each token's Σ p·(1−p)·x·xᵀ; where logits are capped, an error counts by its logit's slope squared."""
    if isinstance(slopes, float):
        uncertainty = 1 - probabilities.square().sum(-1, keepdim=True)
    else:
        uncertainty = _spread(probabilities, slopes).sum(-1, keepdim=True)
    total.addmm_((hidden * uncertainty).T, hidden)


def _spread(probabilities: torch.Tensor, slopes: torch.Tensor | float) -> torch.Tensor:
    spread = probabilities.sub(probabilities.square())
    return spread if isinstance(slopes, float) else spread * slopes.square()


def probe(model: Model, windows: torch.Tensor, *, seed: int = 0, progress: Progress = silent) -> Sensitivity:
    """Run the model forward and backward over text and collect what `Sensitivity` holds.

    Args:
        model: The model; it is not changed.
        windows: Token ids, int64 ``[windows, length]``; about 2,000 tokens are enough.
        seed: Of the labels drawn from the model's predictions.
        progress: Receives one event per window.

    Raises:
        InvalidInput: The model predicts what is no number.
    """
    import torch

    collector = _Collector(model)
    generator = torch.Generator().manual_seed(seed)
    frozen = {name: value.requires_grad for name, value in model.module.named_parameters()}
    model.module.requires_grad_(False)
    try:
        for window in track(torch.split(windows, 1), "probing sensitivity", progress, unit="windows"):
            if collector.graded < GRADED_WINDOWS:
                collector.add(window, generator)
            else:
                collector.read_only(window)
    finally:
        collector.remove()
        for name, value in model.module.named_parameters():
            value.requires_grad_(frozen[name])
    return collector.result()


class _Collector:
    """Sums the factors over windows through hooks on the modules."""

    def __init__(self, model: Model) -> None:
        import torch

        self.model, self.tokens, self.graded, self.graded_tokens = model, 0, 0, 0
        anatomy = model.anatomy
        self.outputs: dict[str, torch.Tensor] = {}
        self.hessians: dict[str, torch.Tensor] = {}
        self.reads: dict[str, int] = {}
        self.embedding = torch.zeros(anatomy.hidden_size, anatomy.hidden_size)
        self.uncertain, self.final = torch.zeros_like(self.embedding), torch.empty(0)
        self.rounded: dict[str, dict[int, float]] = {}
        self.read = torch.zeros(anatomy.vocabulary_size)
        self.head = torch.zeros(anatomy.vocabulary_size)
        embedding = model.module.get_submodule(anatomy.embedding)
        self.hooks = [embedding.register_forward_hook(self._start_gradients)]
        for site in anatomy.sites():
            first = model.module.get_submodule(site.modules[0])
            if site.block is None:
                self.hooks.append(first.register_forward_pre_hook(self._keep_final))
                continue
            self.hooks.append(first.register_forward_pre_hook(self._read_inputs(site.name)))
            for path in site.modules:
                if f"{path}.weight" not in anatomy.routers():
                    self.hooks.append(model.module.get_submodule(path).register_forward_hook(self._watch_output(path)))

    def _start_gradients(self, module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        import torch

        if not torch.is_grad_enabled():
            return output
        output = output.detach().requires_grad_()
        output.register_hook(self._add_embedding_gradient)  # type: ignore[no-untyped-call]
        return output

    def _add_embedding_gradient(self, gradient: torch.Tensor) -> None:
        flat = gradient.detach().float().flatten(0, 1)
        with exact():
            self.embedding.addmm_(flat.T, flat)

    def _read_inputs(self, name: str) -> Any:
        def before(module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            import torch

            flat = inputs[0].detach().float().reshape(-1, inputs[0].shape[-1])
            self.reads[name] = self.reads.get(name, 0) + len(flat)
            total = self.hessians.setdefault(name, torch.zeros(flat.shape[1], flat.shape[1]))
            with exact():
                total.addmm_(flat.T, flat)

        return before

    def _keep_final(self, module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        values = inputs[0].detach()
        self.final = values.float().flatten(0, 1)
        if inputs[0].requires_grad:
            anatomy = self.model.anatomy
            name = f"{anatomy.embedding if anatomy.tied else anatomy.head}.weight"
            inputs[0].register_hook(lambda gradient: self._add_rounded(name, values, gradient))  # type: ignore[no-untyped-call]

    def _watch_output(self, path: str) -> Any:
        name = f"{path}.weight"

        def after(module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            values = inputs[0].detach()

            def add(gradient: torch.Tensor) -> None:
                squares = gradient.detach().float().square().reshape(-1, gradient.shape[-1]).sum(0)
                self.outputs[name] = self.outputs[name] + squares if name in self.outputs else squares
                self._add_rounded(name, values, gradient @ module.weight.detach().to(gradient.dtype))

            if output.requires_grad:
                output.register_hook(add)  # type: ignore[no-untyped-call]

        return after

    def _add_rounded(self, name: str, values: torch.Tensor, gradient: torch.Tensor) -> None:
        """Add what rounding the inputs of a matrix costs, given the gradient that reaches them through it."""
        found = self.rounded.setdefault(name, dict.fromkeys(INPUT_BLOCKS, 0.0))
        squares = gradient.detach().float().square()
        for block in found:
            if values.shape[-1] % block == 0:
                found[block] += 0.5 * float((squares * rounded_inputs(values, block)).sum())

    def add(self, window: torch.Tensor, generator: torch.Generator) -> None:
        import torch

        with autocast(), torch.enable_grad():
            logits = self.model.module(window, use_cache=False).logits[0]
        with torch.no_grad():
            scores = logits.detach().float()
            probabilities, slopes = scores.softmax(-1), self.model.anatomy.logit_slopes(scores)
            if not bool(probabilities.isfinite().all()):
                raise InvalidInput("The model's predictions are not finite numbers: its weights are damaged.")
            drawn = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
            self.head += _spread(probabilities, slopes).sum(0)
            with exact():
                _add_uncertain(self.uncertain, self.final, probabilities, slopes)
            # d log p(drawn) / d logits = one-hot − p.
            probabilities[torch.arange(len(drawn)), drawn] -= 1
        logits.backward(probabilities.to(logits.dtype))
        self.graded += 1
        self.graded_tokens += window.numel()
        self._count(window)

    def read_only(self, window: torch.Tensor) -> None:
        import torch

        with torch.no_grad(), autocast():
            self.model.module.base_model(window, use_cache=False)
        self._count(window)

    def _count(self, window: torch.Tensor) -> None:
        import torch

        self.read += torch.bincount(window.flatten(), minlength=len(self.read)).float()
        self.tokens += window.numel()

    def remove(self) -> None:
        for hook in self.hooks:
            hook.remove()

    def result(self) -> Sensitivity:
        graded, count = self.graded_tokens, self.tokens
        hessians = {name: value / self.reads[name] for name, value in self.hessians.items()}
        outputs = {name: value / graded for name, value in self.outputs.items()}
        self._fill_unseen(hessians, outputs)
        return Sensitivity(
            outputs=outputs,
            hessians=hessians | {"head": self.uncertain / graded},
            embedding=self.embedding / graded * self.model.anatomy.embedding_scale**2,
            token_share=self.read / count,
            head=self.head / self.head.sum(),
            inputs={
                name: {block: cost / graded for block, cost in each.items()} for name, each in self.rounded.items()
            },
            tokens=count,
        )

    def _fill_unseen(self, hessians: dict[str, torch.Tensor], outputs: dict[str, torch.Tensor]) -> None:
        """Take experts that no token was routed to for average ones of their block that one token reached."""
        import torch

        for block in self.model.anatomy.blocks if self.model.anatomy.routers() else ():
            for role in MLP_ROLES:
                site = "mlp_hidden" if role == "down" else "mlp_input"
                names = [mlp.projections[role].weight for mlp in block.mlps]
                seen = [outputs[name] for name in names if name in outputs]
                known = [hessians[mlp.site(site)] for mlp in block.mlps if mlp.site(site) in hessians]
                for mlp, name in zip(block.mlps, names, strict=True):
                    outputs.setdefault(name, torch.stack(seen).mean(0) / self.tokens)
                    hessians.setdefault(mlp.site(site), torch.stack(known).mean(0))


def factors(
    model: Model, sensitivity: Sensitivity, windows: torch.Tensor, *, seed: int = 0, progress: Progress = silent
) -> dict[str, float]:
    """Measure how far the prediction is off, by injecting errors of known size into each kind of matrix.

    The Kronecker factors leave out how errors add up over layers and tokens, by a factor that is much the same
    for all matrices of a role and differs between roles. The errors injected are shaped as compensation leaves
    them: with rounding errors ε, ΔW = (ε/diag U)·U, U the Cholesky factor of H⁻¹.

    Args:
        model: The model; it is not changed.
        sensitivity: What `probe` found of it.
        windows: A few windows of text, int64 ``[windows, length]``.
        seed: Of the noise.
        progress: Receives one event per role.

    Returns:
        By matrix name the factor by which a predicted damage must be multiplied.
    """
    import torch

    work = model.clone()
    roles = _roles(model)

    def logits() -> torch.Tensor:
        with torch.no_grad(), autocast():
            return torch.cat(
                [work.module(window, use_cache=False).logits[0].float() for window in torch.split(windows, 1)]
            )

    reference, found = logits(), {}
    for names in track(list(roles.values()), "measuring sensitivity", progress, unit="roles"):
        generator = torch.Generator().manual_seed(seed)
        predicted = 0.0
        for name in names:
            weight = model.weight(name).detach()
            hessian, row_costs = costs_of(model, sensitivity, name)
            factor = sensitivity.inverse_factor(hessian)
            variance = NOISE * float(weight.float().square().mean())
            rounding = torch.randn(weight.shape, generator=generator) * variance**0.5
            work.weight(name).data.copy_(weight + (rounding / factor.diagonal()) @ factor)
            predicted += 0.5 * variance * float(row_costs * factor.diagonal().square().reciprocal().sum())
        measured = float(divergence.kl(reference, logits()).mean())
        for name in names:
            work.weight(name).data.copy_(model.weight(name).detach())
            found[name] = measured / predicted if predicted > 0 else 1.0
    return found


def _roles(model: Model) -> dict[str, list[str]]:
    anatomy = model.anatomy
    roles: dict[str, list[str]] = {"embedding": [f"{anatomy.embedding}.weight"]}
    for block in anatomy.blocks:
        # A matrix of several roles counts as one of the first.
        for name, role in {part.weight: part.role for part in reversed(block.projections.values())}.items():
            roles.setdefault(role, []).append(name)
    if not anatomy.tied:
        roles["head"] = [f"{anatomy.head}.weight"]
    return roles


def costs_of(model: Model, sensitivity: Sensitivity, name: str) -> tuple[torch.Tensor, float]:
    """Return the Hessian of a matrix's inputs ``[columns, columns]`` and the summed cost of its rows."""
    anatomy = model.anatomy
    if name == f"{anatomy.embedding}.weight":
        return (sensitivity.tied_hessian if anatomy.tied else sensitivity.embedding), 1.0
    if name == f"{anatomy.head}.weight":
        return sensitivity.hessians["head"], 1.0
    site = next(site.name for site in anatomy.sites() for path in site.modules if f"{path}.weight" == name)
    return sensitivity.hessians[site], float(sensitivity.outputs[name].sum())
