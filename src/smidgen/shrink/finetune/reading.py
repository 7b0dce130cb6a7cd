"""Reads an adapter that was kept apart, as PEFT or as llama.cpp has it, and merges it into its base later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import DamagedFile, InvalidInput, ReferenceNotFound
from smidgen.models.checkpoint.safetensors import LINEAGE_FILE
from smidgen.models.lineage import Lineage
from smidgen.models.model import Model
from smidgen.shrink.finetune.adapters import CONFIG_FILE, Adapter
from smidgen.shrink.finetune.zeros import pruned_places

if TYPE_CHECKING:
    from smidgen.models.checkpoint.gguf import StoredTensor


def find(adapter: str | Path) -> Path:
    """Return where an adapter lies, before any work begins.

    Raises:
        ReferenceNotFound: There is none.
    """
    path = Path(adapter).expanduser()
    if path.suffix.lower() == ".gguf" and path.is_file():
        return path
    if not (path / CONFIG_FILE).is_file():
        raise ReferenceNotFound(
            f"There is no adapter at {str(adapter)!r}.",
            remedy=f"Name a folder with {CONFIG_FILE}, as --apart writes it, or a LoRA's .gguf file.",
        )
    return path


def read(path: Path, model: Model) -> Adapter:
    """Read an adapter for a model.

    Args:
        path: A folder as PEFT keeps it, or a GGUF as llama.cpp's ``--lora`` takes it.
        model: What it is for; its family knows how a GGUF names and orders the weights.

    Raises:
        ReferenceNotFound: There is none.
        DamagedFile: It cannot be read.
        InvalidInput: It is for a model of other parts.
    """
    return read_gguf(path, model) if path.suffix.lower() == ".gguf" else Adapter.read(path)


def read_gguf(path: Path, model: Model) -> Adapter:
    """Read an adapter from a GGUF; see `read`."""
    from smidgen.models.checkpoint import gguf

    file = gguf.read(path)
    if file.metadata.get("adapter.type") != "lora":
        raise InvalidInput(
            f"{path} is a GGUF, and it holds no LoRA.", remedy="Name the folder or the GGUF of an adapter."
        )
    alpha = file.metadata.get("adapter.lora.alpha")
    ranks = {tensor.shape[0] for name, tensor in file.tensors.items() if name.endswith(".lora_a")}
    if len(ranks) != 1 or not isinstance(alpha, int | float) or not alpha > 0:
        raise DamagedFile(f"The ranks {sorted(ranks)} and the alpha {alpha!r} in {path} are not those of one adapter.")
    (rank,) = ranks
    weights = _weights(file.tensors, path, model)
    paths = {name.removeprefix("base_model.model.").partition(".lora_")[0] for name in weights}
    return Adapter(rank, float(alpha), tuple(sorted(paths)), weights=weights)


def _weights(tensors: Mapping[str, StoredTensor], path: Path, model: Model) -> dict[str, Any]:
    """Return the factors under PEFT's names, rows in the order of the model's own weights."""
    import torch

    from smidgen.models.uneven import row_config

    family, anatomy = model.family, model.anatomy
    own = family.gguf_metadata(model.config)
    stored_names = family.gguf_names(model.config)
    state_names = {stored: name for name, stored in stored_names.items()}
    found = {}
    for stored, tensor in tensors.items():
        base, _, letter = stored.rpartition(".lora_")
        if base not in state_names or letter not in ("a", "b") or f"{base}.lora_{'ab'[letter == 'a']}" not in tensors:
            raise InvalidInput(
                f"The adapter in {path} holds {stored!r}, which has no place in this model.",
                remedy="Name the model that it was trained on.",
            )
        name, values = state_names[base], torch.from_numpy(tensor.floats().copy())
        if letter == "b":
            order = family.gguf_rows(name, row_config(model.config, anatomy, name))
            if order is not None and len(order) != len(values):
                raise InvalidInput(f"The adapter in {path} is for a model of other sizes: {stored!r} shows it.")
            values = (values if order is None else values[torch.argsort(order)]) / family.gguf_factor(name, own)
        found[f"base_model.model.{name.removesuffix('.weight')}.lora_{letter.upper()}.weight"] = values
    return found


def merge(path: Path, model: Model) -> Model:
    """Read an adapter and return a copy of a model with it worked into its weights; pruned weights stay zero.

    The lineage's note says so where the adapter was trained on another model as far as its record tells, or where
    weights were pruned.

    Args:
        path: As for `read`.
        model: What the adapter is for; it is not changed.

    Raises:
        SmidgenError: As `read` and `Adapter.merged` do.
    """
    adapter = read(path, model)
    merged = adapter.merged(model)
    kind = "dora" if adapter.decomposed else "lora"
    made = merged.with_step("merge", adapter=path.name, kind=kind, rank=adapter.rank, alpha=adapter.alpha)
    notes = [*_other_base(path, model), *_kept_zero(adapter, model)]
    return replace(made, lineage=made.lineage.noted(" ".join(notes))) if notes else made


def _other_base(path: Path, model: Model) -> list[str]:
    """Say where the record beside an adapter tells of another base."""
    record = (path if path.is_dir() else path.parent) / LINEAGE_FILE
    trained = Lineage.read(record) if record.is_file() else None
    if trained is None or not trained.steps or trained.steps[-1].operation != "finetune":
        return []
    before = replace(trained, steps=trained.steps[:-1])
    if _identity(before) == _identity(model.lineage):
        return []
    one, other = trained.origin.name, model.lineage.origin.name
    which = f"{one}, and this is {other}" if one != other else f"{one} in another state"
    return [f"The adapter was trained on {which}."]


def _identity(lineage: Lineage) -> str:
    """Return what tells models apart; the place where the origin lay does not count where its content is known."""
    facts = lineage.to_dict()
    origin = facts.pop("origin")
    return json.dumps([origin["sha256"] or origin["name"], facts], sort_keys=True, default=str)


def _kept_zero(adapter: Adapter, model: Model) -> list[str]:
    """Say how much of an adapter fell on weights that were pruned."""
    zeros = pruned_places(model, adapter.targets)
    share = sum(int(zero.sum()) for zero in zeros.values()) / max(1, sum(zero.numel() for zero in zeros.values()))
    return [f"It was not merged into the {share:.0%} of weights that were pruned."] if zeros else []
