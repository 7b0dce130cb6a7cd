"""Hidden channels: the width of the residual stream."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.shrink.prune.repair import Reader
from smidgen.shrink.prune.structures import Structure
from smidgen.shrink.prune.structures._cut import Cut
from smidgen.shrink.prune.structures._rebuild import packed_without, rebuild

if TYPE_CHECKING:
    import torch

    from smidgen.models.anatomy import Anatomy, Block
    from smidgen.models.model import Model
    from smidgen.shrink.statistics import Statistics

K_QUANT_BLOCK, BLOCK = 256, 32
READING = {"attention_input": ("query", "key", "value"), "mlp_input": ("gate", "up")}
WRITING = ("output", "down")


@dataclass(frozen=True)
class Width(Structure):
    """Hidden channels of the residual stream: ``keep`` says how many stay.

    A channel is a column of the embedding and the head, an entry of every norm, a column of every matrix that reads
    the stream and a row of every matrix that writes it. The count is a multiple of 256 where that leaves any
    (llama.cpp's K-quants need rows of whole 256s; cutting down to one opens them), else of 32. Repair updates query,
    key, value, gate, up and an untied head, and scales the norms by how much of the stream's power stayed.

    Attributes:
        multiple: What the count is a multiple of, where 256 or 32 is not wanted.
    """

    multiple: int | None = None

    unit: ClassVar[str] = "hidden channels"
    criterion: ClassVar[str] = "activation"
    readers: ClassVar[tuple[str, ...]] = ("attention_input", "mlp_input", "head")

    def size(self, anatomy: Anatomy) -> int:
        """Count the hidden channels."""
        return anatomy.hidden_size

    def step(self, anatomy: Anatomy) -> int:
        """Return `multiple`, else 256, or 32 for models too narrow for that."""
        return self.multiple or (K_QUANT_BLOCK if anatomy.hidden_size > K_QUANT_BLOCK else BLOCK)

    def remove(self, model: Model, kept: torch.Tensor) -> Model:
        """Build a model of these channels; int64 ``[keep]``, rising."""
        anatomy, cut = model.anatomy, Cut(model)
        config = copy.deepcopy(model.config)
        config.head_dim = anatomy.blocks[0].head_size
        config.hidden_size = len(kept)
        cut.take(f"{anatomy.embedding}.weight", kept, axis=1)
        if anatomy.tied:
            cut.state[f"{anatomy.head}.weight"] = cut.state[f"{anatomy.embedding}.weight"]
        else:
            cut.take(f"{anatomy.head}.weight", kept, axis=1)
        for path in [*(norm for block in anatomy.blocks for norm in block.norms), anatomy.final_norm]:
            cut.take(f"{path}.weight", kept)
            cut.take(f"{path}.bias", kept)
        for block in anatomy.blocks:
            for name in dict.fromkeys(name for name, _ in _readers(block)):
                cut.take(name, kept, axis=1)
            cut.rows(block, {key: kept for key, part in block.projections.items() if part.role in WRITING})
        self._keep_scale(cut, config)
        pruned = cut.build(config)
        if model.vision is None:
            return pruned
        return replace(pruned, vision=model.vision.family.narrowed(model.vision, kept))

    def _keep_scale(self, cut: Cut, config: Any) -> None:
        """Make up for an embedding that the family scales by its width."""
        model = cut.model
        anatomy = model.anatomy
        factor = anatomy.embedding_scale / model.family.anatomy(config).embedding_scale
        if factor == 1:
            return
        embedding, norm = f"{anatomy.embedding}.weight", f"{anatomy.final_norm}.weight"
        cut.state[embedding] = cut.state[embedding] * factor
        if anatomy.tied:
            cut.state[f"{anatomy.head}.weight"] = cut.state[embedding]
            cut.state[norm] = (cut.state[norm] + anatomy.norm_offset) / factor - anatomy.norm_offset

    def read_by(self, model: Model, kept: torch.Tensor) -> dict[str, Reader]:
        """Return every matrix that reads the stream; a tied head is the embedding's and stays as it is."""
        readers: dict[str, Reader] = {}
        for block in model.anatomy.blocks:
            readers |= {name: Reader(site, kept) for name, site in _readers(block)}
        if not model.anatomy.tied:
            readers[f"{model.anatomy.head}.weight"] = Reader("head", kept)
        return readers

    def adjusted(self, model: Model, pruned: Model, kept: torch.Tensor, statistics: Statistics) -> Model:
        """Scale every norm by the root of the share of the stream's power, in relation to its size, that stayed."""
        anatomy, changed = model.anatomy, {}
        before = {
            path: f"{block.path}.{site}" for block in anatomy.blocks for site, path in block.norm_before.items()
        } | {anatomy.final_norm: "head"}
        for path, site in before.items():
            if site not in statistics.second_moment:
                continue
            name, offset = f"{path}.weight", anatomy.norm_offset
            moment = statistics.second_moment[site]
            bias = getattr(model.module.get_submodule(path), "bias", None)
            if bias is not None:
                shift = bias.detach().float().cpu()
                moment = (moment - 2 * shift * statistics.mean[site] + shift.square()).clamp_min(0)
            share = kept_power(moment, model.weight(name).detach() + offset, kept)
            weight = pruned.weight(name).detach()
            changed[name] = ((weight.float() + offset) * share**0.5 - offset).to(weight.dtype)
        module = rebuild(pruned, pruned.config, dict(pruned.module.state_dict()) | changed)
        return replace(pruned, module=module, packed=packed_without(pruned, changed))

    def parameters_saved(self, model: Model, keep: int) -> int:
        """Count the rows, columns and entries that go."""
        anatomy, going = model.anatomy, model.anatomy.hidden_size - keep
        per_channel = anatomy.vocabulary_size * (1 if anatomy.tied else 2) + 1
        per_channel += getattr(model.module.get_submodule(anatomy.final_norm), "bias", None) is not None
        for block in anatomy.blocks:
            biased = sum(getattr(model.module.get_submodule(path), "bias", None) is not None for path in block.norms)
            per_channel += len(block.norms) + biased
            layers = {part.path: part.role for part in block.projections.values()}
            if block.router:
                layers[block.router] = "router"
            for path, role in layers.items():
                layer = model.module.get_submodule(path)
                writes = role in WRITING
                per_channel += layer.in_features if writes else layer.out_features
                per_channel += 1 if writes and layer.bias is not None else 0
        return going * per_channel


def _readers(block: Block) -> Iterator[tuple[str, str]]:
    """Yield the name of every matrix of a block that reads the stream, with its site's."""
    for role in READING["attention_input"]:
        if role in block.projections:
            yield block.projections[role].weight, f"{block.path}.attention_input"
    if block.router:
        yield f"{block.router}.weight", f"{block.path}.mlp_input"
    for mlp in block.mlps:
        for role in READING["mlp_input"]:
            if role in mlp.projections:
                yield mlp.projections[role].weight, mlp.site("mlp_input")


def kept_power(second_moment: torch.Tensor, weight: torch.Tensor, kept: torch.Tensor) -> float:
    """Return mean(x²) of the kept channels in relation to that of all, on average over tokens.

    Args:
        second_moment: Mean square of every output of an RMS norm, ``[hidden]``.
        weight: What the norm multiplies by, ``[hidden]``.
        kept: The channels that stay.

    Example:
        >>> import torch
        >>> kept_power(torch.tensor([8.0, 0.5, 0.5]), torch.tensor([2.0, 1.0, 1.0]), torch.tensor([0, 1]))
        1.25
    """
    import torch

    squares = weight.detach().float().cpu().square()
    power = torch.where(squares > 0, second_moment / squares, 1.0)
    share = float(power[kept.cpu()].mean() / power.mean())
    return share if share > 0 else 1.0
