"""Writes what a model reads images with as a GGUF of its own, the projector that llama.cpp puts before the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen import formats
from smidgen.errors import Unsupported
from smidgen.export.gguf import QUANTIZATION_VERSION
from smidgen.models.checkpoint import gguf
from smidgen.models.files import atomic_path
from smidgen.models.vision.folder import outlined

if TYPE_CHECKING:
    from smidgen.models.model import Model
    from smidgen.models.vision import Vision


def require_writable(model: Model) -> None:
    """Refuse a model whose eyes llama.cpp cannot hold; one of texts only has none.

    Raises:
        Unsupported: llama.cpp would see something else than the model does.
    """
    if model.vision is not None:
        model.vision.family.projector(model.vision)


def require_holdable(folder: Path) -> None:
    """Do what `require_writable` does for a folder's model, without reading its weights.

    Raises:
        Unsupported: llama.cpp would see something else than the model does.
        DamagedFile: What the folder says of its eyes cannot be.
    """
    found = outlined(folder)
    if found is not None:
        found.family.projector(found)


def write(model: Model, path: Path, *, float_format: str = "float16") -> None:
    """Write the projector of a model; it appears under its name only when it is whole.

    Packed matrices are written byte for byte, others in ``float_format``, all else as float32.

    Args:
        model: A model that sees.
        path: The file, ending in ``.gguf``.
        float_format: Number format of matrices that are not packed.

    Raises:
        Unsupported: llama.cpp would see something else than the model does.
    """
    vision = model.vision
    if vision is None:
        raise Unsupported("This model reads no images, so that there is no projector to write.")
    described, names = vision.family.projector(vision)
    for stored in vision.packed.values():
        formats.find(stored.format).require_ggml_type()
    general: dict[str, Any] = {
        "general.architecture": "clip",
        "general.type": "mmproj",
        "general.name": Path(model.lineage.origin.base_model or model.lineage.origin.name).name,
        "general.quantization_version": QUANTIZATION_VERSION,
    }
    tensors = [_planned(vision, name, stored, float_format) for name, stored in names.items()]
    with atomic_path(path) as temporary:
        gguf.write(temporary, general | described, tensors)


def _planned(vision: Vision, name: str, stored_name: str, float_format: str) -> gguf.PlannedTensor:
    own, packed = vision.module.get_parameter(name).detach(), vision.packed.get(name)
    weight = vision.family.in_projector(name, own)
    shape = tuple(size for size in weight.shape if size != 1) or (1,)
    matrix = len(shape) == 2 and "position" not in stored_name
    kind = packed.format if packed is not None else float_format if matrix else "float32"

    def read() -> Any:
        if packed is not None:
            return packed.data.contiguous().numpy()
        return formats.find(kind).quantize(weight.float().cpu().reshape(-1, shape[-1])).contiguous().numpy()

    return gguf.PlannedTensor(stored_name, shape, formats.find(kind).require_ggml_type(), read)
