"""Writes a model as GGUF: names, metadata, row order and number formats as llama.cpp reads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen import formats
from smidgen.errors import Unsupported
from smidgen.export import _uneven
from smidgen.models.checkpoint import gguf, tokenizer
from smidgen.models.files import atomic_path
from smidgen.progress import Progress, silent, track

if TYPE_CHECKING:
    from smidgen.models.families import Family
    from smidgen.models.model import Model

QUANTIZATION_VERSION = 2


def write(model: Model, path: Path, *, float_format: str = "float16", progress: Progress = silent) -> None:
    """Write a model as one GGUF file; it appears under its name only when it is whole.

    Packed weights are written byte for byte, other matrices in ``float_format``, vectors as float32. The same
    model always gives the same bytes: no time stamps.

    Args:
        model: What to write.
        path: The file, ending in ``.gguf``.
        float_format: Number format of matrices that are not packed.
        progress: Receives reports.

    Raises:
        Unsupported: The family or the tokenizer has no place in GGUF, or llama.cpp cannot run blocks that differ.
    """
    require_writable(model.family, uneven=_uneven.differs(model))
    for packed in model.packed.values():
        formats.find(packed.format).require_ggml_type()
    metadata, names = file_metadata(model), _names(model)
    with atomic_path(path) as temporary:
        tensors = (_stored(model, name, stored, float_format) for name, stored in names.items())
        packing = track(tensors, "writing GGUF", progress, unit="tensors", total=len(names))
        gguf.write(temporary, metadata, [*packing, *_extras(model)])


def require_writable(family: Family, *, uneven: bool) -> None:
    """Refuse what could not be written as GGUF, before any work is done for it.

    Args:
        family: The model's family.
        uneven: Whether its blocks will differ in heads or neurons.

    Raises:
        Unsupported: llama.cpp has no architecture for such models.
    """
    if uneven and family.uneven_gguf_architecture is None:
        raise Unsupported(
            f"llama.cpp runs {family.gguf_architecture} only with blocks that are all alike, and an uneven cut makes "
            "them differ.",
            remedy="Cut evenly, or ask for safetensors, which smidgen itself reloads.",
        )


def file_metadata(model: Model) -> dict[str, Any]:
    """Return every key-value pair of the model's GGUF file."""
    origin = model.lineage.origin
    name = (origin.base_model or Path(origin.name).stem).rpartition("/")[2]
    general: dict[str, Any] = {
        "general.architecture": model.family.gguf_architecture,
        "general.type": "model",
        "general.name": name,
        "general.quantization_version": QUANTIZATION_VERSION,
    }
    if origin.licence:
        general["general.license"] = origin.licence
    if origin.base_model:
        general["general.base_model.count"] = 1
        general["general.base_model.0.name"] = name
        general["general.base_model.0.organization"] = origin.base_model.partition("/")[0]
    rows = model.anatomy.vocabulary_size
    own = model.family.gguf_metadata(model.config)
    if _uneven.differs(model):
        general["general.architecture"], own = model.family.uneven_gguf_architecture, _uneven.metadata(model, own)
    return general | own | tokenizer.to_gguf(model.tokenizer, rows, name)


def metadata_bytes(model: Model) -> int:
    """Return how many bytes of the file are not weights of matrices: header, tokenizer, vectors, padding."""
    import tempfile

    names, matrices = _names(model), model.anatomy.matrices()
    vectors = [_stored(model, name, stored, "float32") for name, stored in names.items() if name not in matrices]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "header.gguf"
        gguf.write(path, file_metadata(model), [*vectors, *_extras(model)])
        # Every further tensor costs its header (about 100 bytes) and its padding (at most 31).
        return path.stat().st_size + len(matrices) * 128


def _names(model: Model) -> dict[str, str]:
    """Map every parameter to its name in the file.

    Raises:
        Unsupported: A parameter has none, so that the file would compute something else.
    """
    names = model.family.gguf_names(model.config)
    if _uneven.differs(model):
        names = _uneven.names(model, names)
    lost = next(
        (name for name, _ in model.module.named_parameters() if name not in {**names, **_uneven.idle(model)}), None
    )
    if lost is not None:
        raise Unsupported(
            f"The weight {lost!r} has no place in a GGUF of the architecture {model.family.gguf_architecture!r}.",
            remedy="Ask for safetensors instead.",
        )
    return names


def _stored(model: Model, name: str, stored_name: str, float_format: str) -> gguf.StoredTensor:
    packed = model.packed.get(name)
    if packed is not None:
        number_format, data = formats.find(packed.format), packed.data
        shape: tuple[int, ...] = packed.shape
    else:
        anatomy = model.anatomy
        weight = model.weight(name).detach().float().cpu()
        if anatomy.norm_offset and name in anatomy.norm_weights():
            weight = weight + anatomy.norm_offset  # llama.cpp multiplies by what is stored
        number_format = formats.find(float_format if weight.dim() > 1 else "float32")
        shape = tuple(weight.shape)
        data = number_format.quantize(weight.reshape(-1, shape[-1]))
    order = model.family.gguf_rows(name, _uneven.config_of(model, name))
    if order is not None:
        data = data[order]
    return gguf.StoredTensor(stored_name, shape, number_format.require_ggml_type(), data.contiguous().numpy())


def _extras(model: Model) -> Iterator[gguf.StoredTensor]:
    import torch

    float32 = formats.find("float32")
    for stored_name, values in model.family.gguf_extras(model.config).items():
        raw = float32.quantize(values.reshape(1, -1))
        yield gguf.StoredTensor(stored_name, tuple(values.shape), float32.require_ggml_type(), raw.numpy())
    for stored_name, shape in _uneven.zeros(model).items():
        raw = float32.quantize(torch.zeros(shape))
        yield gguf.StoredTensor(stored_name, shape, float32.require_ggml_type(), raw.numpy())
