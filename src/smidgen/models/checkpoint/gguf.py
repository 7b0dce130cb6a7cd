"""GGUF files: metadata and tensors as they are stored.

Reading checks every length against the file before it is believed, since a file may be cut short or lie; the
`gguf` package trusts what it reads, and is the oracle of the tests. Writing goes through that package.
Format: ggml's docs/gguf.md, versions 2 and 3.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smidgen.errors import DamagedFile, ReferenceNotFound

MAGIC = b"GGUF"
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_MOST_DIMENSIONS = 4


@dataclass(frozen=True)
class StoredTensor:
    """One tensor as it lies in the file.

    Attributes:
        name: The tensor's name in the file.
        shape: Rows first, as torch counts: ``(rows, columns)`` or ``(length,)``.
        type: ggml's number of the format.
        data: uint8 array ``[rows, bytes per row]``, a view of the file.
    """

    name: str
    shape: tuple[int, ...]
    type: int
    data: np.ndarray[Any, np.dtype[np.uint8]]

    @property
    def format(self) -> str:
        """Name of the number format, as "Q4_1"."""
        from gguf import GGMLQuantizationType

        return str(GGMLQuantizationType(self.type).name)

    def floats(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return the values as float32 in the tensor's shape."""
        from gguf.quants import dequantize

        dtype = {0: np.float32, 1: np.float16}.get(self.type)
        raw = np.ascontiguousarray(self.data)
        values = raw.view(dtype) if dtype else dequantize(raw, self.type)
        result: np.ndarray[Any, np.dtype[np.float32]] = values.astype(np.float32, copy=False).reshape(self.shape)
        return result


@dataclass(frozen=True)
class GgufFile:
    """A GGUF file's metadata and tensors.

    Attributes:
        path: Where it lies.
        metadata: Key-value pairs as plain Python values.
        tensors: Tensors by name, in file order.
    """

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, StoredTensor]


class _Cursor:
    """Reads values one after another, refusing to pass the file's end."""

    def __init__(self, data: np.memmap[Any, np.dtype[np.uint8]], path: Path) -> None:
        self.data, self.path, self.offset = data, path, 0

    def fail(self, what: str) -> DamagedFile:
        return DamagedFile(
            f"{self.path} is not a whole GGUF file: {what} (byte {self.offset:,} of {len(self.data):,}).",
            remedy="Fetch or convert it again.",
        )

    def take(self, count: int, what: str) -> bytes:
        if count > len(self.data) - self.offset:
            raise self.fail(f"it ends inside {what}")
        start, self.offset = self.offset, self.offset + count
        return self.data[start : self.offset].tobytes()

    def number(self, kind: str, what: str) -> Any:
        return struct.unpack(kind, self.take(struct.calcsize(kind), what))[0]

    def string(self, what: str) -> str:
        length = self.number("<Q", what)
        return self.take(length, what).decode("utf-8", errors="surrogateescape")

    def value(self, kind: int, what: str) -> Any:
        if kind == _STRING:
            return self.string(what)
        if kind == _ARRAY:
            inner, count = self.number("<I", what), self.number("<Q", what)
            if inner == _STRING:
                if count > len(self.data) - self.offset:
                    raise self.fail(f"it ends inside {what}")
                return [self.string(what) for _ in range(count)]
            if inner in _SCALARS:
                raw = self.take(count * struct.calcsize(_SCALARS[inner]), what)
                return [item[0] for item in struct.iter_unpack(_SCALARS[inner], raw)]
            raise self.fail(f"{what} is an array of the unknown type {inner}")
        if kind not in _SCALARS:
            raise self.fail(f"{what} has the unknown type {kind}")
        return self.number(_SCALARS[kind], what)


def read(path: str | Path) -> GgufFile:
    """Read a GGUF file's metadata and map its tensors, checking that every one lies where it must.

    Args:
        path: The file.

    Raises:
        ReferenceNotFound: There is no such file.
        DamagedFile: It is cut short, is no GGUF, or its tensors overlap or leave the file.
    """
    path = Path(path)
    if not path.is_file():
        raise ReferenceNotFound(f"There is no file {path}.")
    if path.stat().st_size == 0:
        raise DamagedFile(f"{path} is empty.", remedy="Fetch or convert it again.")
    cursor = _Cursor(np.memmap(path, dtype=np.uint8, mode="r"), path)
    if cursor.take(4, "the first four bytes") != MAGIC:
        raise DamagedFile(f"{path} is not a GGUF file: it does not begin with 'GGUF'.")
    version = cursor.number("<I", "the version")
    if version not in (2, 3):
        raise cursor.fail(f"version {version} is not 2 or 3 (or the file is big-endian)")
    tensor_count, pair_count = cursor.number("<Q", "the tensor count"), cursor.number("<Q", "the metadata count")
    metadata: dict[str, Any] = {}
    for _ in range(pair_count):
        key = cursor.string("a metadata key")
        metadata[key] = cursor.value(cursor.number("<I", f"the type of {key!r}"), f"metadata {key!r}")
    headers = [_tensor_header(cursor) for _ in range(tensor_count)]
    return GgufFile(path, metadata, _map_tensors(cursor, headers, metadata.get("general.alignment", 32)))


def _tensor_header(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    name = cursor.string("a tensor's name")
    dimensions = cursor.number("<I", f"the shape of {name!r}")
    if not 0 < dimensions <= _MOST_DIMENSIONS:
        raise cursor.fail(f"tensor {name!r} claims {dimensions} dimensions")
    shape = tuple(cursor.number("<Q", f"the shape of {name!r}") for _ in range(dimensions))
    return (
        name,
        shape[::-1],
        cursor.number("<I", f"the type of {name!r}"),
        cursor.number("<Q", f"the offset of {name!r}"),
    )


def _map_tensors(
    cursor: _Cursor, headers: list[tuple[str, tuple[int, ...], int, int]], alignment: int
) -> dict[str, StoredTensor]:
    from gguf.constants import GGML_QUANT_SIZES

    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise cursor.fail(f"the alignment {alignment!r} is not a power of two")
    sizes = {int(kind): size for kind, size in GGML_QUANT_SIZES.items()}
    start = -(-cursor.offset // alignment) * alignment
    expected, tensors = 0, {}
    for name, shape, kind, offset in headers:
        if kind not in sizes:
            raise cursor.fail(f"tensor {name!r} has the unknown type {kind}")
        block, width = sizes[kind]
        if 0 in shape or shape[-1] % block:
            raise cursor.fail(f"tensor {name!r} of shape {shape} does not divide into blocks of {block}")
        if offset != expected:
            raise cursor.fail(f"tensor {name!r} claims to lie at {offset:,}, and {expected:,} is next")
        row_bytes = shape[-1] // block * width
        rows = int(np.prod([int(size) for size in shape[:-1]], dtype=object)) if len(shape) > 1 else 1
        end = start + offset + rows * row_bytes
        if name in tensors:
            raise cursor.fail(f"tensor {name!r} stands twice")
        if end > len(cursor.data):
            raise cursor.fail(f"tensor {name!r} ends at byte {end:,}, behind the file's end")
        raw = cursor.data[start + offset : end].reshape(rows, row_bytes)
        tensors[name] = StoredTensor(name, shape, kind, raw)
        expected = -(-(offset + rows * row_bytes) // alignment) * alignment
    return tensors


def write(path: Path, metadata: Mapping[str, Any], tensors: Iterable[StoredTensor]) -> None:
    """Write a GGUF file of version 3; the same content always gives the same bytes.

    Args:
        path: Where to write; the caller renames it into place.
        metadata: Key-value pairs with ``general.architecture``; int as uint32 (int32 when negative or in
            arrays), float as float32.
        tensors: The tensors in the order they shall lie.
    """
    from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter

    pairs = dict(metadata)
    writer = GGUFWriter(path, pairs.pop("general.architecture"))
    for key, value in pairs.items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_key_value(key, value, GGUFValueType.INT32 if value < 0 else GGUFValueType.UINT32)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, value)
    for tensor in tensors:
        row_bytes = tensor.data.shape[-1]
        data = np.ascontiguousarray(tensor.data).reshape(*tensor.shape[:-1], row_bytes)
        writer.add_tensor(tensor.name, data, raw_dtype=GGMLQuantizationType(tensor.type))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
