"""A module whose matrices are held as the bytes they are stored in, unpacked where they are used (QLoRA's base)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen import formats
from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.models.model import Model, PackedTensor

if TYPE_CHECKING:
    import torch


def on_packed_base(model: Model) -> Model:
    """Copy a model with every packed matrix held as bytes; only its adapters can be trained.

    A model that holds them so already is copied as it is.

    Raises:
        InvalidInput: No matrix of the model is packed.
    """
    if not model.packed:
        raise InvalidInput(
            "QLoRA trains on a quantized base, and no matrix of this model is kept as it is stored.",
            remedy="Quantize it first, or give the GGUF file that smidgen quantized.",
        )
    anatomy = model.anatomy
    packed = dict(model.packed)
    if anatomy.tied and f"{anatomy.embedding}.weight" in packed:
        packed[f"{anatomy.head}.weight"] = packed[f"{anatomy.embedding}.weight"]
    module = model.module
    originals = {}
    for name, stored in packed.items():
        path = name.removesuffix(".weight")
        part = module.get_submodule(path)
        stand_in = _stand_in(part, stored)
        if stand_in is not None:
            originals[path] = part
            _put(module, path, stand_in)
    try:
        return replace(model, module=copy.deepcopy(module))
    finally:
        for path, part in originals.items():
            _put(module, path, part)


def is_packed(module: Any) -> bool:
    """Whether a module holds matrices as bytes."""
    return any(type(part) in _kinds().values() for part in module.modules())


def unpacked(model: Model) -> Model:
    """Copy a model with every matrix that it holds as bytes made floats again."""
    import torch

    result = replace(model, module=copy.deepcopy(model.module), packed=dict(model.packed))
    linear, embedding = _kinds()[torch.nn.Linear], _kinds()[torch.nn.Embedding]
    for path, part in list(result.module.named_modules()):
        if type(part) is linear:
            whole: Any = torch.nn.Linear(part.in_features, part.out_features, device="meta")
            whole.bias = part.bias
        elif type(part) is embedding:
            whole = torch.nn.Embedding(part.num_embeddings, part.embedding_dim, part.padding_idx, device="meta")
        else:
            continue
        whole.weight = torch.nn.Parameter(part.weight)
        _put(result.module, path, whole.train(part.training))
    anatomy = model.anatomy
    if anatomy.tied:
        head, own = (result.module.get_submodule(path) for path in (anatomy.head, anatomy.embedding))
        head.weight = own.weight
    return result


def as_stored(model: Model, path: Path) -> Model:
    """Return a model that was read from a GGUF file with the bytes that its matrices have there.

    Args:
        model: What was read; not changed.
        path: The file.
    """
    import torch

    from smidgen.models.checkpoint import gguf

    file, names, packed = gguf.read(path), model.family.gguf_names(model.config), dict(model.packed)
    for name in model.anatomy.matrices():
        stored = file.tensors[names[name]]
        try:
            number_format = formats.by_ggml_type(stored.type)
        except ReferenceNotFound:
            continue
        if isinstance(number_format, formats.BlockFormat):
            data, order = torch.from_numpy(stored.data.copy()), model.family.gguf_rows(name, model.config)
            data = data if order is None else data[torch.argsort(order)]
            weight = model.weight(name)
            packed[name] = PackedTensor(number_format.name.lower(), data, (weight.shape[0], weight.shape[1]))
    return replace(model, packed=packed)


def held_bytes(module: Any) -> int:
    """Count the bytes of all parameters and buffers, shared ones once."""
    tensors: Mapping[int, torch.Tensor] = {
        each.data_ptr(): each for each in (*module.parameters(), *module.buffers()) if each.numel()
    }
    return sum(each.numel() * each.element_size() for each in tensors.values())


def _put(module: Any, path: str, part: Any) -> None:
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, part)


def _stand_in(part: Any, stored: PackedTensor) -> Any:
    """Return the module that computes from bytes, None for kinds that have a way of their own."""
    import torch

    kinds = _kinds()
    return kinds[type(part)](part, stored) if type(part) in (torch.nn.Linear, torch.nn.Embedding) else None


@cache
def _kinds() -> dict[type, Any]:
    import torch
    import torch.nn.functional as functional

    class FromBytes(torch.autograd.Function):
        """``x Wᵀ`` with W unpacked in either pass and kept in none."""

        @staticmethod
        def forward(ctx: Any, inputs: Any, data: Any, number_format: Any) -> Any:
            ctx.save_for_backward(data)
            ctx.number_format = number_format
            return functional.linear(inputs, number_format.unpack(data).to(inputs.dtype))

        @staticmethod
        def backward(ctx: Any, slope: Any) -> Any:
            (data,) = ctx.saved_tensors
            return slope @ ctx.number_format.unpack(data).to(slope.dtype), None, None

    class PackedLinear(torch.nn.Linear):
        """A linear layer that holds its weight as bytes."""

        data: torch.Tensor

        def __init__(self, part: Any, stored: PackedTensor) -> None:
            torch.nn.Module.__init__(self)
            self.in_features, self.out_features, self.bias = part.in_features, part.out_features, part.bias
            self.number_format = formats.find(stored.format)
            self.register_buffer("data", stored.data, persistent=False)

        @property
        def weight(self) -> Any:  # type: ignore[override]
            """The floats that the bytes stand for, made anew."""
            return self.number_format.unpack(self.data)

        def forward(self, inputs: Any) -> Any:
            """Return ``x Wᵀ + b``."""
            if torch.is_autocast_enabled(inputs.device.type):
                inputs = inputs.to(torch.get_autocast_dtype(inputs.device.type))
            outputs = FromBytes.apply(inputs, self.data, self.number_format)  # type: ignore[no-untyped-call]
            return outputs if self.bias is None else outputs + self.bias

    class PackedEmbedding(torch.nn.Embedding):
        """An embedding that unpacks only the rows it is asked for."""

        data: torch.Tensor

        def __init__(self, part: Any, stored: PackedTensor) -> None:
            torch.nn.Module.__init__(self)
            self.num_embeddings, self.embedding_dim = part.num_embeddings, part.embedding_dim
            self.padding_idx = part.padding_idx
            self.number_format = formats.find(stored.format)
            self.register_buffer("data", stored.data, persistent=False)

        @property
        def weight(self) -> Any:  # type: ignore[override]
            """The floats that the bytes stand for, made anew."""
            return self.number_format.unpack(self.data)

        def forward(self, ids: Any) -> Any:
            """Return the rows of some tokens."""
            return self.number_format.unpack(self.data[ids.flatten()]).reshape(*ids.shape, -1)

    return {torch.nn.Linear: PackedLinear, torch.nn.Embedding: PackedEmbedding}
