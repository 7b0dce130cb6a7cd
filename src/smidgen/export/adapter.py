"""Writes an adapter by itself: a folder that PEFT loads, and a GGUF that llama.cpp puts on the base model."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen import formats
from smidgen.errors import Unsupported
from smidgen.export.gguf import require_writable
from smidgen.models import uneven_gguf
from smidgen.models.centring import centred_weight
from smidgen.models.checkpoint import gguf
from smidgen.models.checkpoint.safetensors import LINEAGE_FILE
from smidgen.models.files import atomic_path, make_folder
from smidgen.models.uneven import row_config
from smidgen.shrink.finetune.zeros import require_keepable

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model
    from smidgen.shrink.finetune.adapters import Adapter

GGUF = "adapter.gguf"
_MERGE = "Merge it into the model: smidgen merge ADAPTER --into MODEL --out FOLDER"


def write(adapter: Adapter, model: Model, folder: Path) -> None:
    """Write an adapter into a folder: PEFT's two files, its lineage and, where llama.cpp can, ``adapter.gguf``.

    Args:
        adapter: What was trained.
        model: What it was trained on.
        folder: Created where missing.

    Raises:
        Unsupported: Single weights of the model were pruned, and where the adapter is put on it would fill them.
    """
    from safetensors.torch import save_file

    from smidgen.shrink.finetune.adapters import CONFIG_FILE, WEIGHTS_FILE

    require_keepable(model, apart=True)

    make_folder(folder)
    origin = model.lineage.origin
    facts = adapter.config(origin.base_model or origin.name).to_dict()
    facts["target_modules"] = sorted(facts["target_modules"])
    plain = {name: value for name, value in facts.items() if not isinstance(value, set)}
    with atomic_path(folder / WEIGHTS_FILE) as temporary:
        save_file({name: each.contiguous() for name, each in adapter.weights.items()}, temporary, {"format": "pt"})
    for name, content in ((CONFIG_FILE, plain), (LINEAGE_FILE, model.lineage.to_dict())):
        with atomic_path(folder / name) as temporary:
            temporary.write_text(json.dumps(content, indent=1, sort_keys=True, default=str) + "\n", encoding="utf-8")
    with suppress(Unsupported):  # what llama.cpp cannot put on is left out
        write_gguf(adapter, model, folder / GGUF)


def write_gguf(adapter: Adapter, model: Model, path: Path, *, float_format: str = "float32") -> None:
    """Write an adapter as llama.cpp's ``--lora`` takes it; the base is the model's own GGUF.

    Args:
        adapter: What was trained.
        model: What it was trained on; its family names the tensors and orders their rows.
        path: The file, ending in ``.gguf``.
        float_format: Number format of the factors.

    Raises:
        Unsupported: It is a DoRA, or on a layer that has no place in GGUF, or llama.cpp cannot run the model.
    """
    if adapter.decomposed:
        raise Unsupported("llama.cpp runs no DoRA adapters.", remedy=_MERGE)
    differs, family = uneven_gguf.differs(model.config), model.family
    require_writable(family, uneven=differs)
    metadata: dict[str, Any] = {
        "general.architecture": family.uneven_gguf_architecture if differs else family.gguf_architecture,
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": float(adapter.alpha),
    }
    names, tensors = family.gguf_names(model.config), []
    anatomy, own = model.anatomy, family.gguf_metadata(model.config)
    for target in adapter.targets:
        weight = f"{target}.weight"
        if list(names.values()).count(names.get(weight, "")) != 1:
            raise Unsupported(f"The adapter is on {target!r}, which has no place in GGUF.", remedy=_MERGE)
        first, second = (adapter.weights[f"base_model.model.{target}.lora_{each}.weight"] for each in "AB")
        # The factor that writes is changed as the weight itself is in the model's own file.
        second = centred_weight(anatomy, weight, second) * family.gguf_factor(weight, own)
        order = family.gguf_rows(weight, row_config(model.config, anatomy, weight))
        second = second if order is None else second[order]
        tensors += [
            _stored(f"{names[weight]}.lora_a", first, float_format),
            _stored(f"{names[weight]}.lora_b", second, float_format),
        ]
    with atomic_path(path) as temporary:
        gguf.write(temporary, metadata, tensors)


def _stored(name: str, values: torch.Tensor, float_format: str) -> gguf.StoredTensor:
    number_format = formats.find(float_format)
    data = number_format.quantize(values.contiguous())
    return gguf.StoredTensor(name, tuple(values.shape), number_format.require_ggml_type(), data.numpy())
