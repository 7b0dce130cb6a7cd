"""Keeps a model between two steps, exactly: every weight in its own type, the packed bytes, tokenizer and lineage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from smidgen.models import families
from smidgen.models.checkpoint.safetensors import LINEAGE_FILE, read_tokenizer
from smidgen.models.files import atomic_folder
from smidgen.models.lineage import Lineage
from smidgen.models.model import Model, PackedTensor
from smidgen.models.vision import folder as vision_folder

if TYPE_CHECKING:
    import torch

WEIGHTS, PACKED = "weights.safetensors", "packed.safetensors"


def save(model: Model, folder: Path) -> None:
    """Write a snapshot; the folder appears only when it is whole."""
    from safetensors.torch import save_file

    anatomy = model.anatomy
    skipped = {f"{anatomy.head}.weight"} if anatomy.tied else set()
    # Weights that are packed are their bytes' values: only the bytes are kept.
    state = {
        name: value.detach().contiguous()
        for name, value in model.module.state_dict().items()
        if name not in skipped and name not in model.packed
    }
    packed = {f"{entry.format}|{name}": entry.data.contiguous() for name, entry in model.packed.items()}
    with atomic_folder(folder) as temporary:
        save_file(state, temporary / WEIGHTS)
        save_file(packed, temporary / PACKED)
        model.module.config.save_pretrained(temporary)
        model.module.generation_config.save_pretrained(temporary)
        model.tokenizer.save_pretrained(temporary)
        vision_folder.write_beside(model, temporary)
        lineage = {"family": type(model.family).architecture, **model.lineage.to_dict()}
        (temporary / LINEAGE_FILE).write_text(json.dumps(lineage), encoding="utf-8")


def load(folder: Path, dtype: torch.dtype) -> Model:
    """Read a snapshot back."""
    from safetensors.torch import load_file
    from transformers import AutoConfig, GenerationConfig

    from smidgen import formats
    from smidgen.models.load import build_module

    state = load_file(folder / WEIGHTS)
    packed = {}
    for key, data in load_file(folder / PACKED).items():
        number_format, _, name = key.partition("|")
        values = formats.find(number_format).unpack(data)
        packed[name] = PackedTensor(number_format, data, (values.shape[0], values.shape[1]))
        state[name] = values.to(dtype)
    config = AutoConfig.from_pretrained(folder)
    module = build_module(config, state, folder)
    module.generation_config = GenerationConfig.from_pretrained(folder)
    lineage = json.loads((folder / LINEAGE_FILE).read_text(encoding="utf-8"))
    family = families.for_architecture(lineage.pop("family"))
    vision = vision_folder.read_beside(folder, dtype)
    return Model(module, read_tokenizer(folder), family, Lineage.from_dict(lineage), packed, vision=vision)
