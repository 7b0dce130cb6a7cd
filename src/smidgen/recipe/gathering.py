"""Brings together what one step works on: the model by its name, and the text or the images to go by."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import InvalidInput
from smidgen.models.model import Model
from smidgen.progress import Progress
from smidgen.recipe import eyes

if TYPE_CHECKING:
    import torch

    from smidgen.models.sources import LocalModel
    from smidgen.recipe.materials import Materials

WINDOW_LENGTH = 512


def materials(
    model: str | Model, data: str | Path | None, windows: int, seed: int, offline: bool, progress: Progress
) -> Materials:
    """Bring together the model and the text to go by; the text first, since its faults are found at once."""
    import torch

    from smidgen.data.resolve import resolve
    from smidgen.recipe.materials import Materials

    if windows < 1:
        raise InvalidInput(f"{windows} calibration windows tell nothing.", remedy="Give at least 1.")
    texts = resolve(data, offline=offline, seed=seed)
    source = loaded(model, offline, progress)
    length = min(WINDOW_LENGTH, source.anatomy.context_length)
    return Materials(source, texts, windows, length, seed, torch.get_num_threads(), progress=progress)


def tiles(
    model: str | Model, images: str | Path, windows: int, offline: bool, progress: Progress
) -> tuple[Model, torch.Tensor]:
    """Bring together the model and the images to go by, as its tower reads them; the folder is looked at first."""
    eyes.paths(images)
    source = loaded(model, offline, progress)
    return source, eyes.tiles(source, images, most=windows, progress=progress)


def loaded(model: str | Model, offline: bool, progress: Progress) -> Model:
    """Return a model as it is, or load the one of that name."""
    from smidgen.models.load import load

    return model if isinstance(model, Model) else load(model, offline=offline, progress=progress)


def streamed(name: str, offline: bool, progress: Progress) -> Model:
    """Open a model by name without loading it."""
    from smidgen.models import sources, streamed
    from smidgen.models.reference import parse
    from smidgen.models.store import Store

    store = Store()
    return streamed.open_local(sources.fetch(parse(name, store=store), store, offline=offline, progress=progress))


def load_as_stored(local: LocalModel, options: Mapping[str, Any], progress: Progress) -> Model:
    """Load a model; where training is to go by the bytes of its file, with them."""
    from smidgen.models.load import load_local

    model = load_local(local, progress=progress)
    if local.kind != "gguf" or (options.get("method") != "qlora" and options.get("rounding") != "stored"):
        return model
    from smidgen.shrink.finetune.packed import as_stored, on_packed_base

    stored = as_stored(model, local.path)
    # The floats are let go: training on the bytes is to take the memory of the bytes.
    return on_packed_base(stored) if options.get("method") == "qlora" and stored.packed else stored
