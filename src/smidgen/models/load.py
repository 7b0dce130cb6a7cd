"""Loads a model into memory from whatever a reference names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import DamagedFile
from smidgen.models import families
from smidgen.models.checkpoint import gguf, safetensors, tokenizer
from smidgen.models.lineage import Lineage, Origin
from smidgen.models.model import Model
from smidgen.progress import Event, Progress, silent

if TYPE_CHECKING:
    import torch

    from smidgen.models.sources import LocalModel


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
    read = read_gguf if local.kind == "gguf" else read_folder
    model = read(local.path, getattr(torch, dtype))
    if model.lineage.steps:
        return model
    origin = replace(
        model.lineage.origin,
        name=local.name,
        sha256=local.sha256,
        bytes=local.bytes,
        licence=local.licence or model.lineage.origin.licence,
        base_model=local.base_model,
    )
    return replace(model, lineage=Lineage(origin))


def read_folder(folder: Path, dtype: torch.dtype) -> Model:
    """Load a folder in the transformers layout."""
    config = safetensors.read_config(folder)
    architecture = (config.get("architectures") or [str(config.get("model_type"))])[0]
    family = families.for_architecture(architecture)
    module = safetensors.read_module(folder, dtype)
    model = Model(module, safetensors.read_tokenizer(folder), family, Lineage(_origin(folder, module, None, None)))
    record = folder / safetensors.LINEAGE_FILE
    if record.is_file():
        try:
            lineage = Lineage.from_dict(json.loads(record.read_text(encoding="utf-8")))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise DamagedFile(
                f"{record} cannot be read: {error}.", remedy="Remove it or make the model again."
            ) from error
        model = replace(model, lineage=lineage)
    return model


def read_gguf(path: Path, dtype: torch.dtype) -> Model:
    """Load a GGUF file, dequantising its weights."""
    import torch

    file = gguf.read(path)
    family = families.for_gguf(str(file.metadata.get("general.architecture")))
    small = {name: tensor.floats() if len(tensor.shape) == 1 else tensor.data for name, tensor in file.tensors.items()}
    config = family.config_from_gguf(file.metadata, small)
    state: dict[str, Any] = {}
    formats: dict[str, int] = {}
    for name, stored_name in family.gguf_names(config).items():
        stored = file.tensors.get(stored_name)
        if stored is None:
            raise DamagedFile(f"{path} lacks the tensor {stored_name!r}.", remedy="Fetch or convert it again.")
        values = torch.from_numpy(stored.floats().copy())
        order = family.gguf_rows(name, config)
        if order is not None:
            values = values[torch.argsort(order)]
        state[name] = values.to(dtype)
        if len(stored.shape) > 1:
            formats[stored.format] = formats.get(stored.format, 0) + values.numel()
    module = build_module(config, state, path)
    main = max(formats, key=lambda name: formats[name])
    quantised = None if main in ("F32", "F16", "BF16") else main
    origin = _origin(path, module, quantised, file.metadata.get("general.license"))
    return Model(module, tokenizer.from_gguf(file.metadata), family, Lineage(origin))


def build_module(config: Any, state: dict[str, Any], path: Path) -> Any:
    """Make the transformers model of a configuration and fill it; ``path`` names the file in errors."""
    from transformers import AutoModelForCausalLM

    kind = AutoModelForCausalLM._model_mapping[type(config)]
    if config.tie_word_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    dtype = next(iter(state.values())).dtype
    try:
        module, report = kind.from_pretrained(
            None, config=config, state_dict=state, dtype=dtype, output_loading_info=True
        )
    except RuntimeError as error:
        raise DamagedFile(f"The tensors of {path} do not fit its metadata: {str(error).splitlines()[-1]}") from error
    if report["missing_keys"]:
        raise DamagedFile(f"{path} lacks the weights of {sorted(report['missing_keys'])[0]!r}.")
    return module.eval()


def _origin(path: Path, module: Any, quantised: str | None, licence: str | None) -> Origin:
    count = sum(parameter.numel() for parameter in module.parameters())
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    return Origin(
        name=str(path),
        sha256="",
        bytes=sum(file.stat().st_size for file in files),
        parameters=count,
        dequantised_from=quantised,
        licence=licence,
    )
