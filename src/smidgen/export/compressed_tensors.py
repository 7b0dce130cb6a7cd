"""Writes a model as the safetensors that vLLM and others load: the layouts of compressed-tensors.

Three kinds, by the number format that the matrices of the blocks are packed in:

- W4A16 and W8A16, from ``integer:bits=4,group=N`` and ``integer:bits=8,group=N``: codes packed into int32, a scale per
  group; activations stay as they are.
- W8A8, from ``integer:bits=8,group=0``: int8, a scale per row; activations int8, a scale per token found as it runs.
- FP8, from ``float8``: E4M3, a scale per row; activations E4M3, a scale per token found as it runs.

Embedding and head stay floats, which is what engines expect. Layout: compressed-tensors 0.20.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen import formats
from smidgen.errors import Unsupported
from smidgen.models import uneven
from smidgen.models.checkpoint.safetensors import LINEAGE_FILE
from smidgen.models.files import atomic_folder
from smidgen.models.streamed import INDEX

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model, PackedTensor

NAME = "compressed-tensors"
PACKED_BITS = (4, 8)
_TAKE = "Take integer:bits=4,group=128, integer:bits=8,group=0 or float8."


def write(model: Model, folder: Path) -> None:
    """Write configuration, weights, tokenizer and lineage; the folder appears only when it is whole.

    The weights of each block make a file, so that of a model on disk no more than one block is in memory.

    Args:
        model: Its blocks' matrices are packed, all in one format.
        folder: Where; replaced if it exists.

    Raises:
        Unsupported: The formats have no place in compressed-tensors, or its engines cannot build such a model.
    """
    from safetensors.torch import save_file

    number_format = require_writable(model)
    dtype = _dtype(model)
    groups = list(_groups(model))
    with atomic_folder(folder) as temporary:
        places: dict[str, str] = {}
        size = 0
        for number, names in enumerate(groups, 1):
            file = f"model-{number:05d}-of-{len(groups):05d}.safetensors"
            state: dict[str, torch.Tensor] = {}
            for name in names:
                state |= _stored(model, name, dtype)
            save_file(state, temporary / file, {"format": "pt"})
            places |= dict.fromkeys(state, file)
            size += sum(value.nbytes for value in state.values())
        index = {"metadata": {"total_size": size}, "weight_map": places}
        (temporary / INDEX).write_text(json.dumps(index, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        config = copy.deepcopy(model.config)
        config.architectures, config.dtype = [model.family.architecture], dtype
        config.quantization_config = quantization_config(number_format)
        config.save_pretrained(temporary)
        model.module.generation_config.save_pretrained(temporary)
        model.tokenizer.save_pretrained(temporary)
        lineage = json.dumps(model.lineage.to_dict(), indent=1, sort_keys=True)
        (temporary / LINEAGE_FILE).write_text(lineage + "\n", encoding="utf-8")


def require_format(name: str) -> None:
    """Refuse a number format that has no place in compressed-tensors, before any work is done for it.

    Raises:
        Unsupported: It has none.

    Example:
        >>> require_format("integer:bits=4,group=128")
    """
    quantization_config(name)


def quantization_config(name: str) -> dict[str, Any]:
    """Return what ``config.json`` says of a number format.

    Raises:
        Unsupported: It has no place in compressed-tensors.

    Example:
        >>> quantization_config("integer:bits=4,group=128")["config_groups"]["group_0"]["weights"]["group_size"]
        128
    """
    found = formats.find(name)
    fields = {each: getattr(found, each, None) for each in ("bits", "group", "symmetric", "shared", "kind")}
    kind = found.name.partition(":")[0]
    if kind == "integer" and fields["symmetric"] and not fields["shared"]:
        bits, group = fields["bits"], fields["group"]
        if group and bits in PACKED_BITS:
            weights = _numbers(bits, "int", "group", group_size=group)
            return _config("pack-quantized", weights, None)
        if not group and bits == 8:
            return _config("int-quantized", _numbers(8, "int", "channel"), _numbers(8, "int", "token", dynamic=True))
    if kind == "float8" and fields["kind"] == "e4m3" and not fields["group"]:
        return _config("float-quantized", _numbers(8, "float", "channel"), _numbers(8, "float", "token", dynamic=True))
    raise Unsupported(f"compressed-tensors has no place for the number format {name}.", remedy=_TAKE)


def _numbers(bits: int, kind: str, strategy: str, *, group_size: int | None = None, dynamic: bool = False) -> Any:
    return {
        "num_bits": bits,
        "type": kind,
        "symmetric": True,
        "strategy": strategy,
        "group_size": group_size,
        "dynamic": dynamic,
    }


def _config(layout: str, weights: dict[str, Any], activations: dict[str, Any] | None) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": activations, "output_activations": None}
    return {
        "quant_method": NAME,
        "format": layout,
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
    }


def require_writable(model: Model) -> str:
    """Return the one number format of the blocks' matrices.

    Raises:
        Unsupported: There are several or none, or the model has experts or blocks that differ.
    """
    anatomy = model.anatomy
    if uneven.counts(model.config) is not None or anatomy.routers():
        raise Unsupported(
            "Models with experts, or with blocks that differ, are not written as compressed-tensors.",
            remedy="Ask for a GGUF.",
        )
    ends = (f"{anatomy.embedding}.weight", f"{anatomy.head}.weight")
    names = [name for name in anatomy.matrices() if name not in ends]
    kinds = {model.packed[name].format if name in model.packed else "floats" for name in names}
    if len(kinds) > 1:
        raise Unsupported(
            f"The blocks' matrices are stored as {', '.join(sorted(kinds))}, and compressed-tensors engines fuse some.",
            remedy="Store them all in one format.",
        )
    (found,) = kinds
    require_format(found)
    return found


def _dtype(model: Model) -> Any:
    """Return the type of the floats: scales are float16 and stay exact so, but Gemma's stream leaves its range."""
    import torch

    return torch.bfloat16 if model.anatomy.embedding_scale != 1 else torch.float16


def _groups(model: Model) -> Iterator[list[str]]:
    """Yield the names of the weights that make each file: those outside the blocks, then block by block."""
    anatomy = model.anatomy
    names = [name for name, _ in model.module.named_parameters()]
    if anatomy.tied:
        names = [name for name in names if name != f"{anatomy.head}.weight"]
    inside = {name: block.index for block in anatomy.blocks for name in names if name.startswith(f"{block.path}.")}
    yield [name for name in names if name not in inside]
    for block in anatomy.blocks:
        yield [name for name, index in inside.items() if index == block.index]


def _stored(model: Model, name: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return what stands for a weight in the file, by its names there."""
    anatomy = model.anatomy
    packed = model.packed.get(name)
    if name in (f"{anatomy.embedding}.weight", f"{anatomy.head}.weight") or packed is None:
        values = model.weight(name).detach() if packed is None else formats.find(packed.format).unpack(packed.data)
        return {model.family.published_name(name): values.to(dtype).contiguous()}
    stem = model.family.published_name(name).removesuffix("weight")
    return {f"{stem}{part}": value for part, value in compressed(packed, dtype).items()}


def compressed(packed: PackedTensor, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Return the tensors that stand for one matrix.

    Args:
        packed: The matrix in a format that has a place.
        dtype: Type of the scales of groups; those of rows are float32.

    Returns:
        ``weight_packed``, ``weight_scale`` and ``weight_shape``; or ``weight`` and ``weight_scale``.
    """
    import torch

    layout = quantization_config(packed.format)
    found = formats.find(packed.format)
    assert isinstance(found, formats.BlockFormat)
    codes, scales = found.unpack_codes(packed.data)
    codes, scale = codes.reshape(packed.shape), scales.scale.reshape(packed.shape[0], -1)
    if layout["format"] == "pack-quantized":
        bits = layout["config_groups"]["group_0"]["weights"]["num_bits"]
        shape = torch.tensor(packed.shape, dtype=torch.int64)
        return {"weight_packed": words(codes, bits), "weight_scale": scale.to(dtype), "weight_shape": shape}
    if layout["format"] == "int-quantized":
        weight = (codes.to(torch.int16) - 128).to(torch.int8)
    else:
        weight = codes.contiguous().view(torch.float8_e4m3fn)
    return {"weight": weight.contiguous(), "weight_scale": scale.float().contiguous()}


def words(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Pack unsigned codes of 4 or 8 bits into int32, the first in the lowest bits.

    Args:
        codes: uint8 ``[rows, columns]``.
        bits: Of a code.

    Returns:
        int32 ``[rows, columns · bits / 32]``, rounded up.

    Example:
        >>> import torch
        >>> hex(int(words(torch.arange(1, 9, dtype=torch.uint8)[None], 4)[0, 0]) & 0xFFFFFFFF)
        '0x87654321'
    """
    import torch

    per_byte, lacking = 8 // bits, -codes.shape[1] % (32 // bits)
    padded = torch.nn.functional.pad(codes, (0, lacking)).contiguous()
    if per_byte == 2:
        padded = padded[:, ::2] | (padded[:, 1::2] << 4)
    return padded.contiguous().view(torch.int32)
