"""Writes a model as a folder that plain transformers loads, with its lineage beside it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING

from smidgen.models import uneven
from smidgen.models.checkpoint.safetensors import LINEAGE_FILE
from smidgen.models.experts import joined
from smidgen.models.files import atomic_folder
from smidgen.models.vision import folder as vision_folder

if TYPE_CHECKING:
    from smidgen.models.model import Model


def write(model: Model, folder: Path, *, dtype: str = "bfloat16") -> None:
    """Write configuration, weights, tokenizer and lineage; the folder appears only when it is whole.

    Where blocks differ, only smidgen itself reads the folder: ``config.json`` says under ``smidgen`` what each has.
    A model that sees is written under the names that it was published with.

    Args:
        model: What to write; packed weights are written as the floats they stand for.
        folder: Where; replaced if it exists.
        dtype: Type of the weights on disk.
    """
    import torch

    kind = getattr(torch, dtype)
    if model.vision is not None:
        with atomic_folder(folder) as temporary:
            vision_folder.write(model, temporary, kind)
            _write_rest(model, temporary)
        return
    # A model read from a quantised file carries a note of that in its configuration, and would refuse to be saved.
    config = copy.deepcopy(model.config)
    fresh = uneven.fit(type(model.module)._from_config(config, dtype=kind), model.family.anatomy(config))
    state = {name: value.to(kind) for name, value in model.module.state_dict().items()}
    state = joined(state, model.anatomy)
    fresh.load_state_dict(state, assign=uneven.counts(config) is not None)
    fresh.generation_config = model.module.generation_config
    with atomic_folder(folder) as temporary:
        fresh.save_pretrained(temporary)
        _write_rest(model, temporary)


def _write_rest(model: Model, folder: Path) -> None:
    """Write tokenizer and lineage."""
    model.tokenizer.save_pretrained(folder)
    lineage = json.dumps(model.lineage.to_dict(), indent=1, sort_keys=True)
    (folder / LINEAGE_FILE).write_text(lineage + "\n", encoding="utf-8")
