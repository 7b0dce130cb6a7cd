"""Reads and writes folders of models that see: in their published names, and beside a language model's own files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen.errors import DamagedFile, InvalidInput, SmidgenError
from smidgen.models.checkpoint.safetensors import LINEAGE_FILE, read_config, read_tokenizer
from smidgen.models.lineage import Lineage, Origin
from smidgen.models.model import Model, PackedTensor
from smidgen.models.vision import Vision

if TYPE_CHECKING:
    import torch

    from smidgen.models.vision.family import SeeingFamily, State

BESIDE = "vision.safetensors"
"""The file beside a language model's that keeps what the model reads images with."""

KEY = "smidgen.vision"
"""Entry of that file's metadata: family, published configuration, and how packed weights are packed."""

_AGAIN = "Fetch the model again."


def is_seeing(folder: Path) -> bool:
    """Whether a folder holds a model that reads images, by its configuration alone."""
    from smidgen.models import families

    if (folder / BESIDE).is_file():
        return True
    try:
        config = read_config(folder)
    except SmidgenError:
        return False
    return families.seeing(config) is not None


def read(folder: Path, published: Mapping[str, Any], family: SeeingFamily, dtype: torch.dtype) -> Model:
    """Load a folder whose weights bear their published names.

    Args:
        folder: Where it lies.
        published: What its ``config.json`` says.
        family: Whose it is.
        dtype: Type the weights are held in.

    Raises:
        DamagedFile: Weights are missing, too many, or do not fit the configuration.
        Unsupported: The language model is of no known family.
    """
    from smidgen.models import families
    from smidgen.models.load import build_module

    config, eyes = _empty(folder, published, family)
    state, own = family.divided(published, _weights(folder, dtype))
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    module = build_module(config, state, folder)
    _require_same(set(state) - tied, set(module.state_dict()) - tied, folder)
    _fill(eyes, own, folder)
    module.generation_config = _generation_config(folder, module.generation_config)
    vision = Vision(family, eyes.eval(), published)
    record = folder / LINEAGE_FILE
    stored = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    count = sum(value.numel() for value in (*module.parameters(), *eyes.parameters()))
    lineage = Lineage.read(record) if record.is_file() else Lineage(Origin(str(folder), "", stored, count))
    language = families.for_architecture(type(module).__name__)
    return Model(module, read_tokenizer(folder), language, lineage, vision=vision)


def outlined(folder: Path) -> Vision | None:
    """Return what a folder's model reads images with, without its weights; None where it reads none.

    Args:
        folder: Where it lies, under its published names or as `write_beside` wrote it.

    Raises:
        DamagedFile: What the folder says of it cannot be.
        Unsupported: It is of no known family, or asks for what its family does not have.
    """
    from smidgen.models import families

    path = folder / BESIDE
    if path.is_file():
        described = _described(path)
        family: Any = families.for_architecture(described["family"])
        published = described["config"]
    else:
        published = read_config(folder)
        family = families.seeing(published)
        if family is None:
            return None
    return Vision(family, _empty(folder, published, family)[1], published)


def write(model: Model, folder: Path, dtype: torch.dtype) -> None:
    """Write configuration and weights under their published names; packed ones as the floats they stand for.

    Args:
        model: A model that sees.
        folder: Where to; it exists.
        dtype: Type of the weights on disk.
    """
    from safetensors.torch import save_file

    vision, anatomy = model.vision, model.anatomy
    assert vision is not None
    language = _floats(model.module, dtype)
    if anatomy.tied:
        language.pop(f"{anatomy.head}.weight", None)
    state = vision.family.joined(vision.published, language, _floats(vision.module, dtype))
    whole = {name: value.contiguous() for name, value in state.items()}
    save_file(whole, folder / "model.safetensors", {"format": "pt"})
    described = vision.family.described(model) | {"architectures": [vision.family.architecture]}
    described["torch_dtype"] = str(dtype).removeprefix("torch.")
    (folder / "config.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    model.module.generation_config.save_pretrained(folder)


def write_beside(model: Model, folder: Path, dtype: torch.dtype | None = None) -> None:
    """Keep what a model reads images with beside its language model's own files; nothing where it reads none.

    Args:
        model: The model.
        folder: Where to; it exists.
        dtype: Type on disk of weights that are not packed; None: their own.
    """
    from safetensors.torch import save_file

    vision = model.vision
    if vision is None:
        return
    state = {
        name: value.detach().to(dtype or value.dtype).contiguous()
        for name, value in vision.module.state_dict().items()
        if name not in vision.packed
    }
    state |= {name: stored.data.contiguous() for name, stored in vision.packed.items()}
    described = {
        "family": vision.family.architecture,
        "config": vision.family.described(model),
        "packed": {name: [each.format, *each.shape] for name, each in sorted(vision.packed.items())},
    }
    save_file(state, folder / BESIDE, {KEY: json.dumps(described)})


def read_beside(folder: Path, dtype: torch.dtype, *, hold: bool = False) -> Vision | None:
    """Read what `write_beside` wrote, None where it wrote nothing.

    Args:
        folder: Where it lies.
        dtype: Type of the weights that are not packed, and of all where they are unpacked.
        hold: Keep packed matrices as bytes in the module too.

    Raises:
        DamagedFile: It cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from smidgen import formats
    from smidgen.models import families, packed

    path = folder / BESIDE
    if not path.is_file():
        return None
    described = _described(path)
    try:
        state, stored = load_file(path), {}
        family: Any = families.for_architecture(described["family"])
        for name, (number_format, rows, columns) in described["packed"].items():
            stored[name] = PackedTensor(number_format, state.pop(name), (rows, columns))
            state[name] = formats.find(number_format).for_matrix(stored[name].data).unpack(stored[name].data)
        published = described["config"]
        module = _built(family, published, family.language_config(published))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedFile(f"{path} cannot be read: {error}.", remedy="Make it again.") from error
    _fill(module, {name: value.to(dtype) for name, value in state.items()}, folder)
    if hold:
        packed.hold(module, stored)
    return Vision(family, module.eval(), published, stored)


def _described(path: Path) -> dict[str, Any]:
    """Return what `write_beside` wrote beside the weights."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            found = json.loads((file.metadata() or {})[KEY])
        return {name: found[name] for name in ("family", "config", "packed")}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedFile(f"{path} cannot be read: {error}.", remedy="Make it again.") from error


def _empty(folder: Path, published: Mapping[str, Any], family: SeeingFamily) -> tuple[Any, Any]:
    """Return the configuration of the language model, and the eyes without weights."""
    from huggingface_hub.errors import StrictDataclassError

    try:
        config = family.language_config(published)
        return config, _built(family, published, config)
    except (StrictDataclassError, ValueError, TypeError, KeyError, ZeroDivisionError) as error:
        reason = str(error).strip().rpartition("\n")[2]
        raise DamagedFile(f"{folder / 'config.json'} cannot be: {reason}", remedy=_AGAIN) from error


def _built(family: SeeingFamily, published: Mapping[str, Any], config: Any) -> Any:
    """Build the eyes without making their weights; buffers that no file holds are computed."""
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        return family.eyes(published, config)


def _fill(module: Any, state: State, folder: Path) -> None:
    """Give the eyes their weights."""
    _require_same(set(state), set(module.state_dict()), folder)
    try:
        module.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise DamagedFile(
            f"The weights of {folder} do not fit its configuration: {str(error).splitlines()[-1].strip()}",
            remedy=_AGAIN,
        ) from error
    module.requires_grad_(False)


def _require_same(found: set[str], expected: set[str], folder: Path) -> None:
    for kind, names in (("lack", expected - found), ("hold beyond what is known", found - expected)):
        if names:
            raise DamagedFile(
                f"The weights in {folder} {kind} {len(names)} tensors, the first is {min(names)!r}.", remedy=_AGAIN
            )


def _weights(folder: Path, dtype: torch.dtype) -> State:
    """Read every weight of a folder."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from smidgen.models.sources import _layout

    names = _layout.select(place.name for place in folder.iterdir() if place.is_file()).weights
    if not names:
        raise InvalidInput(f"{folder} holds no safetensors.", remedy="Give a folder in the transformers layout.")
    try:
        return {name: value.to(dtype) for file in names for name, value in load_file(folder / file).items()}
    except (SafetensorError, OSError) as error:
        raise DamagedFile(f"The weights in {folder} cannot be read: {error}", remedy=_AGAIN) from error


def _generation_config(folder: Path, own: Any) -> Any:
    from transformers import GenerationConfig

    if not (folder / "generation_config.json").is_file():
        return own
    try:
        return GenerationConfig.from_pretrained(folder)
    except (OSError, ValueError, TypeError) as error:
        raise DamagedFile(f"{folder / 'generation_config.json'} cannot be read: {error}", remedy=_AGAIN) from error


def _floats(module: Any, dtype: torch.dtype) -> State:
    return {name: value.detach().to(dtype) for name, value in module.state_dict().items()}
