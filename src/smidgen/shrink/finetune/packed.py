"""The base that QLoRA trains on: a model that holds its matrices as the bytes they are stored in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from smidgen import formats
from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.models.model import Model, PackedTensor
from smidgen.models.packed import held
from smidgen.models.uneven import row_config


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
    return held(model)


def as_stored(model: Model, path: Path) -> Model:
    """Return a model that was read from a GGUF file with the bytes that its matrices have there.

    Args:
        model: What was read; not changed.
        path: The file.
    """
    import torch

    from smidgen.models.checkpoint import gguf

    file, names, packed = gguf.read(path), model.family.gguf_names(model.config), dict(model.packed)
    anatomy = model.anatomy
    for name in anatomy.matrices():
        stored = file.tensors[names[name]]
        try:
            number_format = formats.by_ggml_type(stored.type)
        except ReferenceNotFound:
            continue
        if isinstance(number_format, formats.BlockFormat):
            order = model.family.gguf_rows(name, row_config(model.config, anatomy, name))
            data = torch.from_numpy(stored.data.copy())
            data = data if order is None else data[torch.argsort(order)]
            weight = model.weight(name)
            packed[name] = PackedTensor(number_format.name.lower(), data, (weight.shape[0], weight.shape[1]))
    return replace(model, packed=packed)
