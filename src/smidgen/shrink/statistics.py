"""One pass over calibration text: what every linear layer reads and what every block does to the residual stream.

Pruning, repair, quantization and allocation all choose by these figures, so they are collected once and kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen import heap, machine
from smidgen.errors import DamagedFile, InvalidInput, OutOfResources, ReferenceNotFound
from smidgen.models.anatomy import Anatomy, Projection, Site
from smidgen.models.files import atomic_path
from smidgen.progress import Progress, silent, track
from smidgen.shrink.precision import autocast, exact

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model

FORMAT = 3
_MAPS = ("reads", "mean", "second_moment", "mean_absolute", "magnitude", "head_norm", "relu", "hessian", "gradient")


@dataclass(frozen=True)
class Statistics:
    """Figures of one model on one calibration text. Tensors are float32 and lie on the CPU.

    Attributes:
        tokens: How many tokens were read.
        windows: In how many windows.
        block_influence: 1 − mean over tokens of cos(block input, block output), ``[blocks]``
            (ShortGPT, arXiv 2403.03853).
        residual_norm: Mean L2 norm of the residual stream before every block and after the last, ``[blocks + 1]``.
        reads: How many tokens a site has read, a count by site name: all, or those routed to an expert. Means are
            over these.
        mean: Mean x_j of every input channel of a site, ``[width]`` by site name.
        second_moment: Mean x_j², ``[width]``; the diagonal of `hessian`.
        mean_absolute: Root of the sum over windows of (mean over the window's tokens of |x_j|)², ``[width]``
            (Minitron, arXiv 2407.14679).
        magnitude: Mean |x_j|, ``[width]``.
        head_norm: Root of the sum over windows of (mean over the window's tokens of ‖output of the head‖)², one
            value for each query head, of the sites ``attention_output`` (Minitron).
        relu: Mean ReLU(pre-activation) of every neuron, ``[width]``, of the sites ``mlp_hidden``; empty unless
            asked for.
        hessian: XᵀX / tokens, ``[width, width]``; empty unless asked for.
        gradient: ∂loss/∂w of the mean next-token loss, by the weight's name and in its shape; empty unless asked
            for.
    """

    tokens: int
    windows: int
    block_influence: torch.Tensor
    residual_norm: torch.Tensor
    reads: dict[str, torch.Tensor] = field(default_factory=dict)
    mean: dict[str, torch.Tensor] = field(default_factory=dict)
    second_moment: dict[str, torch.Tensor] = field(default_factory=dict)
    mean_absolute: dict[str, torch.Tensor] = field(default_factory=dict)
    magnitude: dict[str, torch.Tensor] = field(default_factory=dict)
    head_norm: dict[str, torch.Tensor] = field(default_factory=dict)
    relu: dict[str, torch.Tensor] = field(default_factory=dict)
    hessian: dict[str, torch.Tensor] = field(default_factory=dict)
    gradient: dict[str, torch.Tensor] = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """Write everything to one safetensors file, which appears only when it is whole."""
        from safetensors.torch import save_file

        tensors = {"block_influence": self.block_influence, "residual_norm": self.residual_norm}
        for kind in _MAPS:
            tensors |= {f"{kind}/{site}": values.contiguous() for site, values in getattr(self, kind).items()}
        record = json.dumps({"format": FORMAT, "tokens": self.tokens, "windows": self.windows})
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata={"statistics": record})

    @classmethod
    def load(cls, path: str | Path) -> Statistics:
        """Read what `save` wrote.

        Raises:
            ReferenceNotFound: There is no such file.
            DamagedFile: It is no file of statistics, or is cut short.
        """
        from safetensors import SafetensorError, safe_open

        if not Path(path).is_file():
            raise ReferenceNotFound(f"There is no file {path}.")
        maps: dict[str, dict[str, torch.Tensor]] = {kind: {} for kind in _MAPS}
        try:
            with safe_open(path, framework="pt") as file:
                record = json.loads((file.metadata() or {})["statistics"])
                if record["format"] != FORMAT:
                    raise DamagedFile(f"{path} was written by another version.", remedy="Collect the statistics again.")
                for name in file.keys():  # noqa: SIM118 - not a mapping
                    kind, _, site = name.partition("/")
                    if site:
                        maps[kind][site] = file.get_tensor(name)
                influence, norm = file.get_tensor("block_influence"), file.get_tensor("residual_norm")
        except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
            raise DamagedFile(f"{path} holds no statistics: {error}.", remedy="Collect them again.") from error
        return cls(record["tokens"], record["windows"], influence, norm, **maps)


@heap.reused()
def collect(
    model: Model,
    windows: torch.Tensor,
    *,
    sites: Iterable[str] | None = None,
    hessians: bool = False,
    preactivations: bool = False,
    gradients: Iterable[str] = (),
    batch: int = 8,
    progress: Progress = silent,
) -> Statistics:
    """Run a model over calibration windows and collect its figures; the model stays as it was.

    Sums are kept in float64, Hessians and gradients in float32; the forward pass itself runs in bfloat16 where the
    hardware is quick at that.

    Args:
        model: What to look at.
        windows: int64 token ids ``[windows, length]``.
        sites: Names of the sites wanted (`Anatomy.sites`); None: all; empty: block figures only.
        hessians: Whether to collect XᵀX as well: ``hessian_bytes`` says what memory that takes.
        preactivations: Whether to look at what goes into the activation function, at the sites ``mlp_hidden``.
        gradients: Names of the weights whose gradient is wanted; the pass then runs backward too.
        batch: Windows at a time; one where gradients are wanted, since the logits are large, and one where experts
            share the tokens, so that what an expert reads at once is of one window.
        progress: Receives reports.

    Raises:
        InvalidInput: The windows are empty or hold ids that the model has not.
        ReferenceNotFound: No site or weight has a given name.
        OutOfResources: Hessians or gradients do not fit this machine's free memory.
    """
    import torch

    anatomy = model.anatomy
    check_windows(windows, anatomy)
    chosen = _chosen_sites(anatomy, sites)
    slopes = _Gradients(model, gradients)
    if model.device.type == "cpu":
        squares = hessian_bytes(anatomy, [site.name for site in chosen]) if hessians else 0
        _require_memory(squares + slopes.bytes)
    sums = {site.name: _SiteSums(anatomy, site, hessians, preactivations, model.device) for site in chosen}
    stream = _StreamSums(len(anatomy.blocks), model.device)
    size = 1 if slopes.total or anatomy.routers() else batch
    with evaluating(model), _hooks(model, chosen, sums, stream), autocast(model.device.type):
        for part in track(torch.split(windows, size), "reading statistics", progress, unit="batches"):
            if slopes.total:
                slopes.add(part.to(model.device))
                continue
            with torch.no_grad():
                model.module.base_model(input_ids=part.to(model.device), use_cache=False)
    return _finished(windows, sums, stream, slopes)


def _finished(windows: torch.Tensor, sums: dict[str, _SiteSums], stream: _StreamSums, slopes: _Gradients) -> Statistics:
    """Turn sums into means."""
    import torch

    count, tokens = len(windows), windows.numel()
    reads = {name: max(1, entry.reads) for name, entry in sums.items()}
    return Statistics(
        tokens=tokens,
        windows=count,
        block_influence=(1 - stream.cosine / tokens).clamp_min(0).float().cpu(),
        residual_norm=(stream.norm / tokens).float().cpu(),
        reads={name: torch.tensor(float(entry.reads)) for name, entry in sums.items()},
        mean={name: (entry.total / reads[name]).float().cpu() for name, entry in sums.items()},
        second_moment={name: (entry.squares / reads[name]).float().cpu() for name, entry in sums.items()},
        mean_absolute={name: entry.absolute.sqrt().float().cpu() for name, entry in sums.items()},
        magnitude={name: (entry.magnitude / reads[name]).float().cpu() for name, entry in sums.items()},
        head_norm={name: entry.heads.sqrt().float().cpu() for name, entry in sums.items() if entry.heads is not None},
        relu={name: (entry.relu / reads[name]).float().cpu() for name, entry in sums.items() if entry.relu is not None},
        hessian={
            name: entry.products.div_(reads[name]).cpu() for name, entry in sums.items() if entry.products is not None
        },
        gradient={name: (total / max(1, slopes.tokens)).cpu() for name, total in slopes.total.items()},
    )


def site_width(anatomy: Anatomy, site: Site) -> int:
    """Count the input channels of a site's linear layers."""
    if site.block is None:
        return anatomy.hidden_size
    block, role = anatomy.blocks[site.block], site.name.rpartition(".")[2]
    widths = {"attention_output": block.query_heads * block.head_size, "mlp_hidden": block.neurons}
    return widths.get(role, anatomy.hidden_size)


def hessian_bytes(anatomy: Anatomy, sites: Iterable[str] | None = None) -> int:
    """Return the memory that the float32 Hessians of these sites take (None: of all)."""
    return sum(4 * site_width(anatomy, site) ** 2 for site in _chosen_sites(anatomy, sites))


def check_windows(windows: torch.Tensor, anatomy: Anatomy) -> None:
    """Refuse calibration windows that a model cannot read.

    Raises:
        InvalidInput: They are empty, not ``[windows, length]``, too long, or hold ids outside the vocabulary.
    """
    if windows.dim() != 2 or windows.numel() == 0:
        raise InvalidInput(
            f"Calibration needs token windows of the shape [windows, length], not {list(windows.shape)}.",
            remedy="Give more text.",
        )
    if windows.shape[1] > anatomy.context_length:
        raise InvalidInput(f"Windows of {windows.shape[1]} tokens exceed the model's {anatomy.context_length}.")
    lowest, highest = int(windows.min()), int(windows.max())
    if lowest < 0 or highest >= anatomy.vocabulary_size:
        wrong = lowest if lowest < 0 else highest
        raise InvalidInput(
            f"The calibration text holds the token id {wrong}, and the model knows {anatomy.vocabulary_size:,} tokens.",
            remedy="Encode the text with this model's own tokenizer.",
        )


@contextmanager
def evaluating(model: Model) -> Iterator[None]:
    """Hold a model in evaluation mode, and give it its former mode back."""
    modes = [(module, module.training) for module in model.module.modules()]
    model.module.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _chosen_sites(anatomy: Anatomy, names: Iterable[str] | None) -> list[Site]:
    known = {site.name: site for site in anatomy.sites()}
    wanted = list(known) if names is None else list(dict.fromkeys(names))
    for name in wanted:
        if name not in known:
            raise ReferenceNotFound.among("site", name, known)
    return [known[name] for name in wanted]


def _require_memory(needed: int) -> None:
    _, free = machine.memory()
    if needed > free:
        raise OutOfResources(
            f"The statistics take {needed / 1e6:,.0f} MB of memory, and {free / 1e6:,.0f} MB are free.",
            remedy="Collect them for fewer sites at a time.",
        )


class _SiteSums:
    """Running sums of one site's inputs, and of what made them."""

    def __init__(self, anatomy: Anatomy, site: Site, hessian: bool, preactivations: bool, device: torch.device) -> None:
        import torch

        width, role = site_width(anatomy, site), site.name.rpartition(".")[2]
        heads = anatomy.blocks[site.block].query_heads if site.block is not None and role == "attention_output" else 0
        self.reads = 0
        self.total = torch.zeros(width, dtype=torch.float64, device=device)
        self.squares = torch.zeros_like(self.total)
        self.absolute = torch.zeros_like(self.total)
        self.magnitude = torch.zeros_like(self.total)
        self.heads = torch.zeros(heads, dtype=torch.float64, device=device) if heads else None
        self.relu = torch.zeros_like(self.total) if preactivations and role == "mlp_hidden" else None
        self.products = torch.zeros(width, width, dtype=torch.float32, device=device) if hessian else None

    def add(self, inputs: torch.Tensor) -> None:
        """Take in ``[batch, length, width]``, or of one window's tokens those that are read, ``[tokens, width]``."""
        import torch

        inputs = inputs if inputs.dim() == 3 else inputs[None]
        self.reads += inputs.shape[0] * inputs.shape[1]
        with exact(inputs.device.type), torch.no_grad():
            values = inputs.detach().float()
            absolute = values.abs()
            self.total += values.sum((0, 1), dtype=torch.float64)
            self.squares += values.square().sum((0, 1), dtype=torch.float64)
            self.absolute += absolute.mean(1).double().square().sum(0)
            self.magnitude += absolute.sum((0, 1), dtype=torch.float64)
            if self.heads is not None:
                norms = values.reshape(*values.shape[:2], len(self.heads), -1).norm(dim=-1)
                self.heads += norms.mean(1).double().square().sum(0)
            if self.products is not None:
                flat = values.flatten(0, 1)
                self.products.addmm_(flat.T, flat)

    def add_preactivation(self, values: torch.Tensor) -> None:
        """Take in what goes into the activation function, ``[batch, length, width]`` or ``[tokens, width]``."""
        import torch

        assert self.relu is not None
        values = values if values.dim() == 3 else values[None]
        self.relu += values.detach().float().clamp_min(0).sum((0, 1), dtype=torch.float64)


class _Gradients:
    """Running sums of the gradient of the next-token loss, for the weights that were named."""

    def __init__(self, model: Model, names: Iterable[str]) -> None:
        known = dict(model.module.named_parameters())
        wanted = list(dict.fromkeys(names))
        for name in wanted:
            if name not in known:
                raise ReferenceNotFound.among("weight", name, known)
        self.model, self.weights, self.tokens = model, {name: known[name] for name in wanted}, 0
        self.bytes = sum(4 * weight.numel() for weight in self.weights.values())
        self.total: dict[str, torch.Tensor] = {}
        if wanted:
            import torch

            self.total = {name: torch.zeros_like(weight, dtype=torch.float32) for name, weight in self.weights.items()}

    def add(self, tokens: torch.Tensor) -> None:
        """Read ``[windows, length]`` forward and backward."""
        import torch
        import torch.nn.functional as functional

        flags = {weight: weight.requires_grad for weight in self.weights.values()}
        try:
            for weight in self.weights.values():
                weight.requires_grad_(True)
            with torch.enable_grad():
                logits = self.model.module(input_ids=tokens, use_cache=False).logits[:, :-1].flatten(0, 1).float()
                loss = functional.cross_entropy(logits, tokens[:, 1:].flatten(), reduction="sum")
                found = torch.autograd.grad(loss, list(self.weights.values()), allow_unused=True)
        finally:
            for weight, flag in flags.items():
                weight.requires_grad_(flag)
        for total, gradient in zip(self.total.values(), found, strict=True):
            if gradient is not None:  # an expert that none of these tokens was routed to has none
                total += gradient
        self.tokens += len(logits)


class _StreamSums:
    """Running sums of what the blocks do to the residual stream."""

    def __init__(self, blocks: int, device: torch.device) -> None:
        import torch

        self.cosine = torch.zeros(blocks, dtype=torch.float64, device=device)
        self.norm = torch.zeros(blocks + 1, dtype=torch.float64, device=device)

    def add(self, index: int, before: torch.Tensor, after: torch.Tensor) -> None:
        """Take in one block's input and output, ``[batch, length, hidden]``."""
        import torch

        before, after = before.detach().float(), after.detach().float()
        self.cosine[index] += torch.cosine_similarity(before, after, dim=-1).sum(dtype=torch.float64)
        self.norm[index] += before.norm(dim=-1).sum(dtype=torch.float64)
        if index == len(self.cosine) - 1:
            self.norm[-1] += after.norm(dim=-1).sum(dtype=torch.float64)


@contextmanager
def _hooks(model: Model, sites: list[Site], sums: dict[str, _SiteSums], stream: _StreamSums) -> Iterator[None]:
    anatomy, module = model.anatomy, model.module
    handles = []

    def reading(entry: _SiteSums) -> Callable[[Any, tuple[Any, ...]], None]:
        return lambda _, inputs: entry.add(inputs[0])

    def activating(entry: _SiteSums, source: Projection) -> Callable[[Any, tuple[Any, ...], Any], None]:
        rows = slice(*source.rows) if source.rows else slice(None)
        return lambda _, inputs, output: entry.add_preactivation(output[..., rows])

    def passing(index: int) -> Callable[[Any, tuple[Any, ...], Any], None]:
        return lambda _, inputs, output: stream.add(index, inputs[0], output)

    try:
        for site in sites:
            if site.block is None:
                # What the head reads is what the last norm gives: so the head itself need not be computed.
                last = module.get_submodule(anatomy.final_norm)
                entry = sums[site.name]
                handles.append(last.register_forward_hook(lambda _, inputs, output, entry=entry: entry.add(output)))
            else:
                first = module.get_submodule(site.modules[0])
                handles.append(first.register_forward_pre_hook(reading(sums[site.name])))
                if sums[site.name].relu is not None:
                    mlps = anatomy.blocks[site.block].mlps
                    projections = next(mlp for mlp in mlps if mlp.site("mlp_hidden") == site.name).projections
                    source = projections.get("gate", projections["up"])
                    layer = module.get_submodule(source.path)
                    handles.append(layer.register_forward_hook(activating(sums[site.name], source)))
        for block in anatomy.blocks:
            handles.append(module.get_submodule(block.path).register_forward_hook(passing(block.index)))
        yield
    finally:
        for handle in handles:
            handle.remove()
