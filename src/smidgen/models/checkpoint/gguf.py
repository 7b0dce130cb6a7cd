"""GGUF files: metadata and tensors as they are stored.

Reading checks every length against the file before it is believed, since a file may be cut short or lie; the
`gguf` package trusts what it reads, and is the oracle of the tests. Writing goes through that package.
Format: ggml's docs/gguf.md, versions 2 and 3.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smidgen.errors import DamagedFile, InvalidInput, ReferenceNotFound, Unsupported
from smidgen.models.files import open_for_reading

MAGIC = b"GGUF"
VERSIONS = (2, 3)
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_MOST_DIMENSIONS = 4
_MOST_NESTED = 8
_MOST_ITEMS = 1 << 24
"""Longest array of metadata that is believed; the largest vocabularies have a sixtieth of that."""


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
        """Return the values as float32 in the tensor's shape.

        Raises:
            Unsupported: The format stands for no weights (integers, formats of intermediate results).
        """
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize

        dtype = {0: np.float32, 1: np.float16}.get(self.type)
        raw = np.ascontiguousarray(self.data)
        try:
            values = raw.view(dtype) if dtype else dequantize(raw, GGMLQuantizationType(self.type))
        except NotImplementedError:
            raise Unsupported(f"Tensor {self.name!r} is stored as {self.format}, which cannot be read back.") from None
        result: np.ndarray[Any, np.dtype[np.float32]] = values.astype(np.float32, copy=False).reshape(self.shape)
        return result

    def slices(self) -> list[StoredTensor]:
        """Divide a tensor of three dimensions into matrices along the first."""
        rows = self.shape[-2]
        return [
            StoredTensor(self.name, self.shape[1:], self.type, self.data[first : first + rows])
            for first in range(0, len(self.data), rows)
        ]


@dataclass(frozen=True)
class PlannedTensor:
    """One tensor that is to be written, made when its turn comes and let go again.

    Attributes:
        name: The tensor's name in the file.
        shape: Rows first, as torch counts.
        type: ggml's number of the format.
        read: Returns its bytes, uint8 ``[rows, bytes per row]``.
    """

    name: str
    shape: tuple[int, ...]
    type: int
    read: Callable[[], np.ndarray[Any, np.dtype[np.uint8]]]


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


@dataclass(frozen=True)
class _Header:
    """What a file says of one tensor: shape, rows first; type; offset behind the headers."""

    shape: tuple[int, ...]
    type: int
    offset: int


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
        raw = self.take(self.number("<Q", what), what)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise self.fail(f"{what} is not UTF-8 text") from None

    def value(self, kind: int, what: str) -> Any:
        if kind == _STRING:
            return self.string(what)
        if kind == _ARRAY:
            return self.array(what, 1)
        if kind not in _SCALARS:
            raise self.fail(f"{what} has the unknown type {kind}")
        return self.number(_SCALARS[kind], what)

    def array(self, what: str, depth: int) -> list[Any]:
        kind, count = self.number("<I", what), self.number("<Q", what)
        if kind in _SCALARS and count <= _MOST_ITEMS:
            raw = self.take(count * struct.calcsize(_SCALARS[kind]), what)
            return [item[0] for item in struct.iter_unpack(_SCALARS[kind], raw)]
        if kind not in (_STRING, _ARRAY, *_SCALARS):
            raise self.fail(f"{what} is an array of the unknown type {kind}")
        # Every string and every inner array takes at least the eight bytes of its length.
        if count > min(_MOST_ITEMS, (len(self.data) - self.offset) // 8):
            raise self.fail(f"{what} claims {count:,} items")
        if kind == _STRING:
            return [self.string(what) for _ in range(count)]
        if depth == _MOST_NESTED:
            raise self.fail(f"{what} is nested more than {_MOST_NESTED} deep")
        return [self.array(what, depth + 1) for _ in range(count)]


def read(path: str | Path) -> GgufFile:
    """Read a GGUF file's metadata and map its tensors, checking that every one lies where it must.

    Args:
        path: The file.

    Raises:
        ReferenceNotFound: There is no such file.
        InvalidInput: It is a folder, or may not be read.
        DamagedFile: It is cut short, is no GGUF, or its tensors overlap or leave the file.
        Unsupported: It is of version 1 or big-endian.
    """
    cursor = _open(Path(path))
    tensor_count, metadata = cursor.number("<Q", "the tensor count"), dict[str, Any]()
    for key, value in _pairs(cursor):
        if key in metadata:
            raise cursor.fail(f"metadata {key!r} stands twice")
        metadata[key] = value
    headers: dict[str, _Header] = {}
    for _ in range(tensor_count):
        name = cursor.string("a tensor's name")
        if name in headers:
            raise cursor.fail(f"tensor {name!r} stands twice")
        headers[name] = _header(cursor, name)
    return GgufFile(cursor.path, metadata, _map_tensors(cursor, headers, metadata.get("general.alignment", 32)))


def read_beginning(path: str | Path) -> dict[str, Any]:
    """Read the key-value pairs that stand before the tokenizer's, which are by far the longest.

    Every writer puts what is said of the architecture there. Raises as `read` does.
    """
    cursor = _open(Path(path))
    cursor.number("<Q", "the tensor count")
    return dict(itertools.takewhile(lambda pair: not pair[0].startswith("tokenizer."), _pairs(cursor)))


def _pairs(cursor: _Cursor) -> Iterator[tuple[str, Any]]:
    for _ in range(cursor.number("<Q", "the metadata count")):
        key = cursor.string("a metadata key")
        yield key, cursor.value(cursor.number("<I", f"the type of {key!r}"), f"metadata {key!r}")


def _open(path: Path) -> _Cursor:
    """Map a file and stand behind its version."""
    if path.is_dir():
        raise InvalidInput(f"{path} is a folder.", remedy="Name a file in it.")
    if not path.is_file():
        raise ReferenceNotFound(f"There is no file {path}.")
    with open_for_reading(path) as file:
        if file.read(4) != MAGIC:
            raise DamagedFile(
                f"{path} is not a GGUF file: it does not begin with 'GGUF'.", remedy="Fetch or convert it again."
            )
    cursor = _Cursor(np.memmap(path, dtype=np.uint8, mode="r"), path)
    cursor.take(len(MAGIC), "the first four bytes")
    version = cursor.number("<I", "the version")
    if version not in VERSIONS:
        if int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS:
            raise Unsupported(f"{path} is a big-endian GGUF file.", remedy="Use a little-endian one.")
        if version == 1:
            raise Unsupported(f"{path} is a GGUF file of version 1.", remedy="Use one of version 2 or 3.")
        raise cursor.fail(f"its version is {version:,}, not 2 or 3")
    return cursor


def _header(cursor: _Cursor, name: str) -> _Header:
    dimensions = cursor.number("<I", f"the shape of {name!r}")
    if not 0 < dimensions <= _MOST_DIMENSIONS:
        raise cursor.fail(f"tensor {name!r} claims {dimensions:,} dimensions")
    shape = tuple(cursor.number("<Q", f"the shape of {name!r}") for _ in range(dimensions))
    kind = cursor.number("<I", f"the type of {name!r}")
    return _Header(shape[::-1], kind, cursor.number("<Q", f"the offset of {name!r}"))


def _map_tensors(cursor: _Cursor, headers: Mapping[str, _Header], alignment: Any) -> dict[str, StoredTensor]:
    from gguf.constants import GGML_QUANT_SIZES

    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
        raise cursor.fail(f"the alignment {alignment!r} is not a power of two")
    sizes = {int(kind): size for kind, size in GGML_QUANT_SIZES.items()}
    start = -(-cursor.offset // alignment) * alignment
    expected, tensors = 0, {}
    for name, header in headers.items():
        shape, offset = header.shape, header.offset
        if header.type not in sizes:
            raise cursor.fail(f"tensor {name!r} has the unknown type {header.type}")
        block, width = sizes[header.type]
        if 0 in shape or shape[-1] % block:
            raise cursor.fail(f"tensor {name!r} of shape {shape} does not divide into blocks of {block}")
        if offset != expected:
            raise cursor.fail(f"tensor {name!r} claims to lie at {offset:,}, and {expected:,} is next")
        rows, row_bytes = math.prod(shape[:-1]), shape[-1] // block * width
        end = start + offset + rows * row_bytes
        if end > len(cursor.data):
            raise cursor.fail(f"tensor {name!r} ends at byte {end:,}, behind the file's end")
        raw = cursor.data[start + offset : end].reshape(rows, row_bytes)
        tensors[name] = StoredTensor(name, shape, header.type, raw)
        expected = -(-(offset + rows * row_bytes) // alignment) * alignment
    return tensors


def write(path: Path, metadata: Mapping[str, Any], tensors: Iterable[StoredTensor | PlannedTensor]) -> None:
    """Write a GGUF file of version 3, tensor by tensor; the same content always gives the same bytes.

    Args:
        path: Where to write; the caller renames it into place.
        metadata: Key-value pairs with ``general.architecture``; int as uint32 (int32 when negative or in
            arrays, uint64 when larger), float as float32. An empty list is left out.
        tensors: The tensors in the order they shall lie.
    """
    from gguf import GGMLQuantizationType, GGUFWriter

    pairs, tensors = dict(metadata), list(tensors)
    writer = GGUFWriter(path, pairs.pop("general.architecture"))
    for key, value in pairs.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        else:
            writer.add_key_value(key, value, _value_type(value))
    for tensor in tensors:
        shape, kind = _byte_shape(tensor), GGMLQuantizationType(tensor.type)
        writer.add_tensor_info(tensor.name, shape, np.dtype(np.uint8), math.prod(shape), raw_dtype=kind)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for tensor in tensors:
            data = tensor.data if isinstance(tensor, StoredTensor) else tensor.read()
            writer.write_tensor_data(np.ascontiguousarray(data).reshape(_byte_shape(tensor)))
    finally:
        writer.close()


def _byte_shape(tensor: StoredTensor | PlannedTensor) -> tuple[int, ...]:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    block, width = GGML_QUANT_SIZES[GGMLQuantizationType(tensor.type)]
    return (*tensor.shape[:-1], tensor.shape[-1] // block * width)


def _value_type(value: Any) -> Any:
    from gguf import GGUFValueType

    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            return GGUFValueType.INT32
        return GGUFValueType.UINT32 if value < 1 << 32 else GGUFValueType.UINT64
    return GGUFValueType.get_type(value)
