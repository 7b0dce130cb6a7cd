"""What an engine runs of a model: the file or folder itself, or a GGUF written into the store's cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from smidgen.models.files import make_folder, require_free
from smidgen.models.store import Store
from smidgen.progress import Progress, silent

if TYPE_CHECKING:
    from smidgen.models.sources import LocalModel

CACHE = "cache"
"""Folder of the store for files that can be made again at any time."""

MADE_FILE = "model.gguf"
"""Name of the GGUF in a folder that smidgen made."""


def find(name: str, store: Store | None = None, *, offline: bool = False, progress: Progress = silent) -> LocalModel:
    """Get a model onto this machine for running it.

    A folder that holds the transformers layout and the ``model.gguf`` made of it stands for that file.

    Args:
        name: As a person writes it; see `smidgen.models.reference.parse`.
        store: The model store; the default one where None.
        offline: Take only what is on this machine.
        progress: Receives reports.

    Raises:
        SmidgenError: There is no such model, or it cannot be had.
    """
    from smidgen.models.reference import parse
    from smidgen.models.sources import fetch

    store = store or Store()
    reference = parse(name, store)
    if reference.kind == "folder" and reference.path is not None and (reference.path / MADE_FILE).is_file():
        reference = parse(str(Path(reference.name) / MADE_FILE), store)
    return fetch(reference, store, offline=offline, progress=progress)


def path_of(
    local: LocalModel, store: Store | None = None, *, engine: str = "auto", progress: Progress = silent
) -> Path:
    """Return what an engine runs of a model: a folder that is packed or reads images as it lies, a GGUF of all else.

    Args:
        local: The model.
        store: Where a GGUF that has to be written is kept; the default store where None.
        engine: The engine's name; ``torch`` and ``vllm`` run every folder and file as it lies.
        progress: Receives reports.

    Raises:
        Unsupported: It is to be read at fewer bits and is not stored hierarchically.
    """
    from smidgen.models import packed
    from smidgen.models.vision.folder import is_seeing

    if local.depth is not None:
        return packed.require_folder(local.path)
    if engine in ("torch", "vllm"):
        return local.path
    if engine == "auto" and local.kind != "gguf" and (packed.is_folder(local.path) or is_seeing(local.path)):
        return local.path
    return gguf_of(local, store, progress=progress)


def gguf_of(local: LocalModel, store: Store | None = None, *, progress: Progress = silent) -> Path:
    """Return a GGUF of a model: its own, or one in float16 that is written once and kept under its digest.

    Args:
        local: The model.
        store: Where the cache lies; the default store where None.
        progress: Receives reports.

    Raises:
        Unsupported: Its architecture or its tokenizer has no place in GGUF.
        OutOfResources: The disk cannot hold it.
    """
    if local.kind == "gguf":
        return local.path
    path = cached(local, store)
    if not path.is_file():
        from smidgen.export import gguf
        from smidgen.models.load import load_local

        require_free(path.parent, local.bytes)
        model = replace(load_local(local, progress=progress), packed={})  # its formats may have no place in GGUF
        make_folder(path.parent)
        gguf.write(model, path, float_format="float16", progress=progress)
    return path


def cached(local: LocalModel, store: Store | None = None) -> Path:
    """Return where the GGUF of a model that is none lies, whether it is there or not."""
    return (store or Store()).root / CACHE / f"sha256-{local.sha256}-float16.gguf"
