"""Writes a model as a folder that keeps its matrices as packed bytes, in formats of GGUF and beside them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING

from smidgen.models import packed
from smidgen.models.checkpoint.safetensors import LINEAGE_FILE
from smidgen.models.files import atomic_folder
from smidgen.models.vision import folder as vision_folder

if TYPE_CHECKING:
    from smidgen.models.model import Model


def write(model: Model, folder: Path, *, dtype: str = "bfloat16") -> None:
    """Write configuration, packed weights, tokenizer and lineage; the folder appears only when it is whole.

    smidgen itself reads it (`smidgen.models.packed`); the same model always gives the same bytes.

    Args:
        model: What to write.
        folder: Where; replaced if it exists.
        dtype: Type on disk of the weights that are not packed.
    """
    import torch
    from safetensors.torch import save_file

    anatomy = model.anatomy
    left_out = {*model.packed, *([f"{anatomy.head}.weight"] if anatomy.tied else [])}
    state = {
        name: value.detach().to(getattr(torch, dtype)).contiguous()
        for name, value in model.module.state_dict().items()
        if name not in left_out
    }
    state |= {name: stored.data.contiguous() for name, stored in model.packed.items()}
    described = {
        name: {"format": stored.format, "rows": stored.shape[0], "columns": stored.shape[1]}
        | ({} if stored.inputs is None else {"inputs": stored.inputs})
        for name, stored in sorted(model.packed.items())
    }
    config = copy.deepcopy(model.config)
    config.architectures = [model.family.architecture]
    with atomic_folder(folder) as temporary:
        # One entry of metadata only: several would be written in an order of their own each time.
        save_file(state, temporary / packed.WEIGHTS, {packed.KEY: json.dumps(described)})
        config.save_pretrained(temporary)
        model.module.generation_config.save_pretrained(temporary)
        model.tokenizer.save_pretrained(temporary)
        vision_folder.write_beside(model, temporary, getattr(torch, dtype))
        lineage = json.dumps(model.lineage.to_dict(), indent=1, sort_keys=True)
        (temporary / LINEAGE_FILE).write_text(lineage + "\n", encoding="utf-8")
