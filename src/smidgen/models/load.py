"""Loads a model into memory from whatever a reference names."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from smidgen.errors import DamagedFile
from smidgen.models import experts, families, packed, uneven
from smidgen.models.checkpoint import safetensors, tokenizer
from smidgen.models.facts import published_as
from smidgen.models.lineage import Lineage, Origin
from smidgen.models.model import Model
from smidgen.models.vision import folder as vision_folder
from smidgen.progress import Event, Progress, silent

if TYPE_CHECKING:
    import torch

    from smidgen.models.sources import LocalModel


AnyModel = TypeVar("AnyModel", bound=Model)


def load(
    name: str,
    *,
    dtype: str = "float32",
    offline: bool = False,
    progress: Progress = silent,
) -> Model:
    """Fetch a model if need be and load it for shrinking.

    Args:
        name: ``smollm2:135m``, ``hf:org/name@revision``, a folder, a ``.gguf`` file, or a name in the store.
        dtype: ``float32`` or ``bfloat16``, the type the weights are held in.
        offline: Take only what is on this machine.
        progress: Receives reports.

    Raises:
        ReferenceNotFound: Nothing has that name.
        DamagedFile: The file is not what it claims to be.
        Unsupported: The architecture or the tokenizer is not known.

    Example:
        model = smidgen.load("smollm2:135m")
    """
    from smidgen.models.reference import parse
    from smidgen.models.sources import fetch
    from smidgen.models.store import Store

    store = Store()
    local = fetch(parse(name, store=store), store, offline=offline, progress=progress)
    return load_local(local, dtype=dtype, progress=progress)


def load_local(local: LocalModel, *, dtype: str = "float32", progress: Progress = silent) -> Model:
    """Load a model whose files are on this machine.

    Args:
        local: What `fetch` returned.
        dtype: ``float32`` or ``bfloat16``.
        progress: Receives reports.
    """
    import torch
    from transformers.utils import logging

    progress(Event(f"loading {local.name}"))
    logging.disable_progress_bar()
    if local.depth is not None:
        model = packed.read_folder(packed.require_folder(local.path), getattr(torch, dtype), depth=local.depth)
    else:
        read = read_gguf if local.kind == "gguf" else read_folder
        model = read(local.path, getattr(torch, dtype))
    return named_as(model, local)


def named_as(model: AnyModel, local: LocalModel) -> AnyModel:
    """Give a model that nothing was done to the name, size and licence that it was fetched under."""
    if model.lineage.steps:
        return model
    origin = replace(
        model.lineage.origin,
        name=local.name,
        sha256=local.sha256,
        bytes=local.bytes,
        licence=local.licence or model.lineage.origin.licence,
        base_model=local.base_model or model.lineage.origin.base_model,
    )
    return replace(model, lineage=Lineage(origin))


def read_folder(folder: Path, dtype: torch.dtype) -> Model:
    """Load a folder in the transformers layout, with its lineage where it has one.

    Raises:
        InvalidInput: It holds no configuration.
        DamagedFile: Configuration, weights, tokenizer or lineage cannot be read.
        Unsupported: Its architecture is not known, or needs code of its own.
    """
    if packed.is_folder(folder):
        return packed.read_folder(folder, dtype)
    config = safetensors.read_config(folder)
    sees = families.seeing(config)
    if sees is not None:
        return vision_folder.read(folder, config, sees, dtype)
    architecture = (config.get("architectures") or [config.get("model_type")])[0]
    family = families.for_architecture(str(architecture))
    module = _uneven_module(folder, dtype) if uneven.KEY in config else safetensors.read_module(folder, dtype)
    module = experts.take_apart(module, family.anatomy(module.config))
    record = folder / safetensors.LINEAGE_FILE
    stored = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    origin = Origin(name=str(folder), sha256="", bytes=stored, parameters=_count(module))
    lineage = Lineage.read(record) if record.is_file() else Lineage(origin)
    return Model(module, safetensors.read_tokenizer(folder), family, lineage)


def read_gguf(path: Path, dtype: torch.dtype) -> Model:
    """Load a GGUF file, dequantising its weights.

    Raises:
        DamagedFile: The file is cut short, or its metadata and tensors contradict each other.
        Unsupported: Its architecture, its tokenizer or a tensor of it is not known.
    """
    from smidgen.models.gguf_weights import GgufWeights

    weights = GgufWeights.open(path)
    file, config, family, metadata = weights.file, weights.config, weights.family, weights.file.metadata
    state = weights.read([*weights.names, *weights.unstored], dtype)
    model_tokenizer = tokenizer.from_gguf(metadata)
    module = build_module(config, state, path)
    formats: Counter[str] = Counter()
    for tensor in map(file.tensors.__getitem__, dict.fromkeys(weights.names.values())):
        formats[tensor.format] += math.prod(tensor.shape)
    main = formats.most_common(1)[0][0]
    licence = metadata.get("general.license")
    origin = Origin(
        name=str(path),
        sha256="",
        bytes=path.stat().st_size,
        parameters=_count(module),
        dequantised_from=None if main in ("F32", "F16", "BF16") else main,
        licence=licence if isinstance(licence, str) else None,
        base_model=published_as(metadata),
    )
    return Model(module, model_tokenizer, family, Lineage(origin), as_read=weights.packed)


def _uneven_module(folder: Path, dtype: torch.dtype) -> Any:
    """Load a folder whose blocks differ, which transformers itself cannot build."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from transformers import AutoConfig, GenerationConfig

    try:
        config = AutoConfig.from_pretrained(folder)
        state = {
            name: value for file in sorted(folder.glob("*.safetensors")) for name, value in load_file(file).items()
        }
        module = build_module(config, {name: value.to(dtype) for name, value in state.items()}, folder)
        if (folder / "generation_config.json").is_file():
            module.generation_config = GenerationConfig.from_pretrained(folder)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        first = str(error).strip().partition("\n")[0]
        raise DamagedFile(
            f"The weights in {folder} cannot be read: {first}", remedy="Fetch the model again."
        ) from error
    return module


def build_module(config: Any, state: dict[str, Any], path: Path) -> Any:
    """Make the transformers model of a configuration and fill it; ``path`` names the file in errors."""
    if config.tie_word_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    anatomy = families.for_architecture(families.module_class(config).__name__).anatomy(config)
    if uneven.counts(config) is not None or any(block.experts for block in anatomy.blocks):
        return uneven.read_module(families.module_class(config), config, anatomy, state, path)
    dtype = next(iter(state.values())).dtype
    try:
        module, report = families.module_class(config).from_pretrained(
            None, config=config, state_dict=state, dtype=dtype, output_loading_info=True
        )
    except RuntimeError as error:
        raise DamagedFile(f"The tensors of {path} do not fit its metadata: {str(error).splitlines()[-1]}") from error
    if report["missing_keys"]:
        raise DamagedFile(f"{path} lacks the weights of {sorted(report['missing_keys'])[0]!r}.")
    return module.eval()


def _count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
