"""Writes a model as GGUF: names, metadata, row order and number formats as llama.cpp reads them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smidgen import formats
from smidgen.errors import Unsupported
from smidgen.models import uneven_gguf
from smidgen.models.centring import centred_weight
from smidgen.models.checkpoint import gguf, tokenizer
from smidgen.models.files import atomic_path
from smidgen.models.uneven import row_config
from smidgen.progress import Event, Progress, silent

if TYPE_CHECKING:
    from smidgen.models.families import Family
    from smidgen.models.model import Model, PackedTensor

QUANTIZATION_VERSION = 2
ALIGNMENT, FLOAT32 = 32, 0
"""Bytes that tensors are aligned to, and ggml's number of the type whose values take four bytes."""


def write(model: Model, path: Path, *, float_format: str = "float16", progress: Progress = silent) -> None:
    """Write a model as one GGUF file; it appears under its name only when it is whole.

    Packed weights are written byte for byte, other matrices in ``float_format``, vectors as float32. The same
    model always gives the same bytes: no time stamps. Tensors are made one by one, as they are written.

    Args:
        model: What to write.
        path: The file, ending in ``.gguf``.
        float_format: Number format of matrices that are not packed.
        progress: Receives reports.

    Raises:
        Unsupported: The family or the tokenizer has no place in GGUF, or llama.cpp cannot run blocks that differ.
    """
    require_writable(model.family, uneven=uneven_gguf.differs(model.config))
    for packed in model.packed.values():
        formats.find(packed.format).require_ggml_type()
    metadata, sharers = file_metadata(model), _sharers(_names(model))
    planned = [_planned(model, members, stored, float_format) for stored, members in sharers.items()]
    done = count(1)
    progress(Event("writing GGUF", 0, len(planned), "tensors"))

    def reported(tensor: gguf.PlannedTensor) -> gguf.PlannedTensor:
        def read() -> Any:
            data = tensor.read()
            progress(Event("writing GGUF", next(done), len(planned), "tensors"))
            return data

        return replace(tensor, read=read)

    with atomic_path(path) as temporary:
        gguf.write(temporary, metadata, [*map(reported, planned), *_extras(model)])


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
    if uneven_gguf.differs(model.config):
        general["general.architecture"] = model.family.uneven_gguf_architecture
        own = uneven_gguf.metadata(model.family, model.config, own)
    layout = {} if model.vision is None else model.vision.family.gguf_layout()
    return general | own | tokenizer.to_gguf(model.tokenizer, rows, name) | layout


def metadata_bytes(model: Model) -> int:
    """Return how many bytes of the file are not weights of matrices: header, tokenizer, vectors, padding."""
    import tempfile

    import numpy as np

    names, matrices = _names(model), model.anatomy.matrices()
    vectors = [_planned(model, [name], stored, "float32") for name, stored in names.items() if name not in matrices]
    # A tensor's header has one size whatever the tensor's: rows of `ALIGNMENT` bytes stand in for the matrices.
    sharers = _sharers({name: names[name] for name in matrices})
    blank = np.zeros((1, ALIGNMENT), np.uint8)
    stand_ins = [
        gguf.PlannedTensor(stored, (*[1] * (1 + (len(members) > 1)), ALIGNMENT // 4), FLOAT32, lambda: blank)
        for stored, members in sharers.items()
    ]
    # What follows a matrix is aligned; as many rows as that need no padding, however many bytes a row has.
    padded = sum(len(members) * len(model.weight(members[0])) % ALIGNMENT > 0 for members in sharers.values())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "header.gguf"
        gguf.write(path, file_metadata(model), [*vectors, *_extras(model), *stand_ins])
        return path.stat().st_size - ALIGNMENT * len(stand_ins) + (ALIGNMENT - 1) * padded


def _names(model: Model) -> dict[str, str]:
    """Map every parameter to its name in the file.

    Raises:
        Unsupported: A parameter has none, so that the file would compute something else.
    """
    names = uneven_gguf.names(model.family, model.config)
    placed = {*names, *uneven_gguf.idle(model.family, model.config)}
    lost = next((name for name, _ in model.module.named_parameters() if name not in placed), None)
    if lost is not None:
        raise Unsupported(
            f"The weight {lost!r} has no place in a GGUF of the architecture {model.family.gguf_architecture!r}.",
            remedy="Ask for safetensors instead.",
        )
    return names


def _sharers(names: dict[str, str]) -> dict[str, list[str]]:
    """Map every name in the file to the weights that it holds."""
    sharers: dict[str, list[str]] = {}
    for name, stored in names.items():
        sharers.setdefault(stored, []).append(name)
    return sharers


def _planned(model: Model, members: list[str], stored_name: str, float_format: str) -> gguf.PlannedTensor:
    """Plan one tensor of the file; several weights that share it are stacked."""
    chosen = {_format_of(model, name, float_format) for name in members}
    if len(chosen) > 1:
        kinds = ", ".join(sorted(chosen)).upper()
        raise Unsupported(
            f"The experts of {stored_name!r} are stored as {kinds}, and a GGUF keeps them as one.",
            remedy="Give all experts of a block the same number format.",
        )
    (number_format,) = chosen

    def read() -> Any:
        import numpy as np

        parts = [_data(model, name, number_format) for name in members]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    shape = model.shape(members[0]) if len(members) == 1 else (len(members), *model.shape(members[0]))
    return gguf.PlannedTensor(stored_name, shape, formats.find(number_format).require_ggml_type(), read)


def _format_of(model: Model, name: str, float_format: str) -> str:
    """Return the number format that a weight has in the file."""
    if name in model.packed:
        return model.packed[name].format
    return "float32" if len(model.shape(name)) == 1 or name in model.anatomy.routers() else float_format


def _data(model: Model, name: str, number_format: str) -> Any:
    """Return a weight's bytes as they lie in the file, uint8 ``[rows, bytes per row]``."""
    packed, anatomy = model.packed.get(name), model.anatomy
    factor = model.family.gguf_factor(name, model.family.gguf_metadata(model.config))
    if packed is not None:
        data = packed.data if factor == 1 else scaled(packed, factor).data
    else:
        weight = centred_weight(anatomy, name, model.weight(name).detach().float().cpu()) * factor
        if anatomy.norm_offset and name in anatomy.norm_weights():
            weight = weight + anatomy.norm_offset  # llama.cpp multiplies by what is stored
        data = formats.find(number_format).quantize(weight.reshape(-1, weight.shape[-1]))
    order = model.family.gguf_rows(name, row_config(model.config, anatomy, name))
    if order is not None:
        data = data[order]
    return data.contiguous().numpy()


def scaled(packed: PackedTensor, factor: float) -> PackedTensor:
    """Multiply a packed weight by a power of two, exactly: its scales change and no code does.

    Raises:
        Unsupported: A scale leaves the range of its type.
    """
    import torch

    number_format = formats.find(packed.format)
    expected = number_format.unpack(packed.data) * factor
    if isinstance(number_format, formats.BlockFormat):
        codes, scales = number_format.unpack_codes(packed.data)
        stored = {name: value * factor if value.is_floating_point() else value for name, value in scales.stored.items()}
        data = number_format.pack(codes, replace(scales, stored=stored))
        if not torch.equal(number_format.unpack(data), expected):
            data = number_format.quantize(expected)  # scales that are powers of two
    else:
        data = number_format.quantize(expected)
    if not torch.equal(number_format.unpack(data), expected):
        raise Unsupported(
            f"A weight stored as {packed.format} cannot be multiplied by {factor:g} as llama.cpp needs it.",
            remedy="Choose another number format for it.",
        )
    return replace(packed, data=data)


def _extras(model: Model) -> Iterator[gguf.StoredTensor]:
    import torch

    float32 = formats.find("float32")
    for stored_name, values in model.family.gguf_extras(model.config).items():
        raw = float32.quantize(values.reshape(1, -1))
        yield gguf.StoredTensor(stored_name, tuple(values.shape), float32.require_ggml_type(), raw.numpy())
    for stored_name, shape in uneven_gguf.zeros(model.family, model.config).items():
        raw = float32.quantize(torch.zeros(shape))
        yield gguf.StoredTensor(stored_name, shape, float32.require_ggml_type(), raw.numpy())
