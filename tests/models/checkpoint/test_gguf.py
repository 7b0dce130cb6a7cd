"""GGUF files, whole and damaged, against the gguf package."""

from __future__ import annotations

import os
import random
import struct
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf as package
import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smidgen.errors import DamagedFile, InvalidInput, ReferenceNotFound, SmidgenError, Unsupported
from smidgen.models.checkpoint.gguf import StoredTensor, read, write

TYPES = {"<B": 0, "<b": 1, "<H": 2, "<h": 3, "<I": 4, "<i": 5, "<f": 6, "<?": 7, "<Q": 10, "<q": 11, "<d": 12}


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tensor(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    """One tensor's header; the shape columns first, as the file has it."""
    sizes = b"".join(struct.pack("<Q", size) for size in shape)
    return text(name) + struct.pack("<I", len(shape)) + sizes + struct.pack("<IQ", kind, offset)


def header(pairs: int, tensors: int, *, version: int = 3, order: str = "<") -> bytes:
    return b"GGUF" + struct.pack(f"{order}IQQ", version, tensors, pairs)


def file_of(pairs: list[bytes], tensors: list[bytes], data: bytes = b"", alignment: int = 32) -> bytes:
    head = header(len(pairs), len(tensors)) + b"".join(pairs) + b"".join(tensors)
    return head + bytes(-len(head) % alignment) + data


ARCHITECTURE = pair("general.architecture", 8, text("llama"))
TWO = [tensor("a", (8, 4), 0, 0), tensor("b", (8,), 0, 128)]


@pytest.fixture(scope="module")
def pieces() -> list[bytes]:
    """A small whole file in its structural parts: header, every key, value, tensor field, padding, tensor."""
    words = [f"word{number}" for number in range(20)]
    strings = b"".join(text(word) for word in words)
    head = [
        b"GGUF", struct.pack("<I", 3), struct.pack("<Q", 2), struct.pack("<Q", 4),
        text("general.architecture"), struct.pack("<I", 8), text("llama"),
        text("tokens"), struct.pack("<I", 9), struct.pack("<I", 8), struct.pack("<Q", 20), strings,
        text("types"), struct.pack("<I", 9), struct.pack("<I", 5), struct.pack("<Q", 20), bytes(80),
        text("eps"), struct.pack("<I", 6), struct.pack("<f", 1e-5),
        text("a"), struct.pack("<I", 2), struct.pack("<QQ", 8, 4), struct.pack("<I", 0), struct.pack("<Q", 0),
        text("b"), struct.pack("<I", 1), struct.pack("<Q", 8), struct.pack("<I", 0), struct.pack("<Q", 128),
    ]  # fmt: skip
    padding = bytes(-sum(map(len, head)) % 32)
    return [*head, padding, numpy.arange(32, dtype="<f4").tobytes(), numpy.ones(8, "<f4").tobytes()]


def test_every_type_of_metadata_is_read_as_it_was_written(tmp_path: Path) -> None:
    values: dict[str, tuple[str, Any]] = {
        "u8": ("<B", 255), "i8": ("<b", -128), "u16": ("<H", 65535), "i16": ("<h", -32768), "u32": ("<I", 2**32 - 1),
        "i32": ("<i", -(2**31)), "f32": ("<f", 0.1), "yes": ("<?", True), "no": ("<?", False), "u64": ("<Q", 2**64 - 1),
        "i64": ("<q", -(2**63)), "f64": ("<d", 0.1),
    }  # fmt: skip
    pairs = [ARCHITECTURE, pair("text", 8, text("naïve ☃ 😀\x00")), pair("none", 8, text(""))]
    for key, (kind, value) in values.items():
        pairs.append(pair(key, TYPES[kind], struct.pack(kind, value)))
        raw = struct.pack("<IQ", TYPES[kind], 3) + struct.pack(kind, value) * 3
        pairs.append(pair(f"{key}s", 9, raw))
    pairs.append(pair("texts", 9, struct.pack("<IQ", 8, 2) + text("a") + text("ß")))
    pairs.append(pair("empty", 9, struct.pack("<IQ", 4, 0)))
    (tmp_path / "a.gguf").write_bytes(file_of(pairs, []))
    found = read(tmp_path / "a.gguf").metadata
    oracle = {key: field.contents() for key, field in package.GGUFReader(tmp_path / "a.gguf").fields.items()}
    assert {key: value for key, value in oracle.items() if not key.startswith("GGUF.") and key != "empty"} == {
        key: value for key, value in found.items() if key != "empty"
    }
    for key, (kind, value) in values.items():
        expected = struct.unpack(kind, struct.pack(kind, value))[0]
        assert found[key] == expected and type(found[key]) is type(expected)
        assert found[f"{key}s"] == [expected] * 3
    assert (found["texts"], found["empty"], found["none"]) == (["a", "ß"], [], "")


def test_arrays_of_arrays_are_read(tmp_path: Path) -> None:
    inner = [struct.pack("<IQ", 4, 2) + struct.pack("<II", 1, 2), struct.pack("<IQ", 8, 1) + text("x")]
    path = tmp_path / "a.gguf"
    path.write_bytes(file_of([ARCHITECTURE, pair("nested", 9, struct.pack("<IQ", 9, 2) + b"".join(inner))], []))
    assert read(path).metadata["nested"] == [[1, 2], ["x"]]


def test_arrays_nested_without_end_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(file_of([ARCHITECTURE, pair("nested", 9, struct.pack("<IQ", 9, 1) * 5000)], []))
    with pytest.raises(DamagedFile, match="nested more than 8 deep"):
        read(path)


def test_tensors_are_those_of_the_gguf_package(tmp_path: Path) -> None:
    path, generator = tmp_path / "a.gguf", numpy.random.default_rng(0)
    writer = package.GGUFWriter(path, "llama")
    weights = generator.standard_normal((6, 64)).astype(numpy.float32)
    writer.add_tensor("plain", weights)
    writer.add_tensor("half", weights.astype(numpy.float16))
    for kind in (package.GGMLQuantizationType.Q8_0, package.GGMLQuantizationType.Q4_1):
        writer.add_tensor(kind.name, package.quantize(weights, kind), raw_dtype=kind)
    writer.add_tensor("cube", generator.standard_normal((2, 3, 32)).astype(numpy.float32))
    writer.add_tensor("vector", weights[0, :5].copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found, oracle = read(path).tensors, package.GGUFReader(path).tensors
    assert list(found) == [entry.name for entry in oracle]
    for entry in oracle:
        mine = found[entry.name]
        assert mine.shape == tuple(reversed(entry.shape.tolist()))
        assert (mine.format, mine.data.tobytes()) == (entry.tensor_type.name, entry.data.tobytes())
        expected = package.dequantize(entry.data, entry.tensor_type).reshape(mine.shape)
        numpy.testing.assert_array_equal(mine.floats(), expected)


def test_the_published_model_is_read_as_the_gguf_package_reads_it(smollm2_gguf: Path) -> None:
    found, oracle = read(smollm2_gguf), package.GGUFReader(smollm2_gguf)
    metadata = {key: field.contents() for key, field in oracle.fields.items() if not key.startswith("GGUF.")}
    assert found.metadata == metadata
    assert {name: (entry.format, entry.data.nbytes) for name, entry in found.tensors.items()} == {
        entry.name: (entry.tensor_type.name, entry.n_bytes) for entry in oracle.tensors
    }
    last = oracle.tensors[-1]
    assert found.tensors[last.name].data.tobytes() == last.data.tobytes()


def test_what_is_written_is_read_by_both(tmp_path: Path) -> None:
    metadata = {
        "general.architecture": "llama", "int": 7, "negative": -7, "large": 2**40, "real": 0.5, "yes": True,
        "text": "ß", "texts": ["a", "b"], "numbers": [1, -2], "flags": [True, False], "nothing": [],
    }  # fmt: skip
    tensors = [
        StoredTensor("a", (3, 32), 8, numpy.arange(102, dtype=numpy.uint8).reshape(3, 34)),
        StoredTensor("b", (5,), 0, numpy.arange(5, dtype=numpy.float32).view(numpy.uint8).reshape(1, 20)),
        StoredTensor("c", (2, 2, 32), 8, numpy.arange(136, dtype=numpy.uint8).reshape(4, 34)),
    ]
    write(tmp_path / "a.gguf", metadata, tensors)
    write(tmp_path / "b.gguf", metadata, iter(tensors))
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()
    found = read(tmp_path / "a.gguf")
    assert found.metadata == {key: value for key, value in metadata.items() if key != "nothing"}
    assert list(found.metadata) == [key for key in metadata if key != "nothing"]
    for before, after in zip(tensors, found.tensors.values(), strict=True):
        assert (before.name, before.shape, before.type) == (after.name, after.shape, after.type)
        assert before.data.tobytes() == after.data.tobytes()
    assert [entry.name for entry in package.GGUFReader(tmp_path / "a.gguf").tensors] == ["a", "b", "c"]


def test_a_format_of_no_weights_is_refused_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(file_of([ARCHITECTURE], [tensor("a", (4,), 26, 0)], bytes(16)))
    with pytest.raises(Unsupported, match="'a' is stored as I32"):
        read(path).tensors["a"].floats()


def test_a_cut_at_every_boundary_is_found(pieces: list[bytes], tmp_path: Path) -> None:
    path, whole = tmp_path / "a.gguf", b"".join(pieces)
    path.write_bytes(whole)
    assert list(read(path).tensors) == ["a", "b"]
    ends = numpy.cumsum([len(piece) for piece in pieces]).tolist()
    cuts = sorted({place for end in (0, *ends) for place in (end - 1, end, end + 1)} & set(range(len(whole))))
    assert len(cuts) > 60
    for cut in cuts:
        path.write_bytes(whole[:cut])
        with pytest.raises(DamagedFile) as caught:
            read(path)
        assert "a.gguf" in str(caught.value) and caught.value.remedy


def test_ten_cuts_of_the_published_model_are_found(smollm2_gguf: Path, tmp_path: Path) -> None:
    size, path = smollm2_gguf.stat().st_size, tmp_path / "cut.gguf"
    with smollm2_gguf.open("rb") as file:
        head = file.read(4 << 20)
    chosen = random.Random(7)
    for cut in (*(chosen.randrange(len(head)) for _ in range(5)), *(chosen.randrange(size) for _ in range(5))):
        path.write_bytes(head[: min(cut, len(head))])
        os.truncate(path, cut)  # the tensors' bytes make no difference
        with pytest.raises(DamagedFile, match=r"not a whole GGUF file|not a GGUF file"):
            read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "does not begin with 'GGUF'"),
        (b"GG", "does not begin with 'GGUF'"),
        (b"PK\x03\x04" * 100, "does not begin with 'GGUF'"),
        (b"GGUF", "ends inside the version"),
        (header(0, 0, version=4), "version is 4"),
        (header(2**60, 0), "ends inside a metadata key"),
        (header(0, 2**60), "ends inside a tensor's name"),
        (header(1, 0) + struct.pack("<Q", 2**60), "ends inside a metadata key"),
        (header(1, 0) + struct.pack("<Q", 2**64 - 1), "ends inside a metadata key"),
        (file_of([pair("a", 8, struct.pack("<Q", 2**60))], []), "ends inside metadata 'a'"),
        (file_of([pair("a", 9, struct.pack("<IQ", 4, 2**60))], []), "claims 1,152,921,504,606,846,976 items"),
        (file_of([pair("a", 9, struct.pack("<IQ", 0, 5000))], []), "ends inside metadata 'a'"),
        (file_of([pair("a", 9, struct.pack("<IQ", 8, 2**60))], []), "claims 1,152,921,504,606,846,976 items"),
        (file_of([pair("a", 9, struct.pack("<IQ", 9, 2**60))], []), "claims 1,152,921,504,606,846,976 items"),
        (file_of([pair("a", 9, struct.pack("<IQ", 13, 1))], []), "array of the unknown type 13"),
        (file_of([pair("a", 13, b"")], []), "unknown type 13"),
        (file_of([ARCHITECTURE, ARCHITECTURE], []), "'general.architecture' stands twice"),
        (file_of([pair("a", 8, text(b"\xff\xfe"))], []), "metadata 'a' is not UTF-8"),
        (file_of([pair("a", 9, struct.pack("<IQ", 8, 1) + text(b"\xc3"))], []), "metadata 'a' is not UTF-8"),
        (header(1, 0) + text(b"\x80") + bytes(40), "key is not UTF-8"),
        (header(0, 1) + text(b"\x80") + bytes(40), "name is not UTF-8"),
        (file_of([], [tensor("a", (), 0, 0)]), "claims 0 dimensions"),
        (file_of([], [tensor("a", (1,) * 5, 0, 0)]), "claims 5 dimensions"),
        (file_of([], [tensor("a", (0, 4), 0, 0)]), "does not divide into blocks"),
        (file_of([], [tensor("a", (33,), 8, 0)], bytes(64)), "does not divide into blocks of 32"),
        (file_of([], [tensor("a", (8,), 4, 0)], bytes(64)), "unknown type 4"),
        (file_of([], [tensor("a", (8,), 999, 0)], bytes(64)), "unknown type 999"),
        (file_of([], [tensor("a", (8,), 0, 0), tensor("a", (8,), 0, 32)], bytes(64)), "'a' stands twice"),
        (file_of([], [tensor("a", (8,), 0, 32)], bytes(96)), "claims to lie at 32, and 0 is next"),
        (file_of([], [tensor("a", (8,), 0, 2**63)], bytes(96)), "claims to lie at"),
        (file_of([], [tensor("a", (8,), 0, 0), tensor("b", (8,), 0, 0)], bytes(64)), "'b' claims to lie at 0"),
        (file_of([], [tensor("a", (8,), 0, 0), tensor("b", (8,), 0, 16)], bytes(64)), "'b' claims to lie at 16"),
        (file_of([], [tensor("a", (8,), 0, 0), tensor("b", (8,), 0, 64)], bytes(96)), "'b' claims to lie at 64"),
        (file_of([], [tensor("a", (2**40,), 0, 0)], bytes(64)), "behind the file's end"),
        (file_of([], [tensor("a", (2**62, 2**62), 0, 0)], bytes(64)), "behind the file's end"),
        (file_of([], [tensor("a", (2**63, 2, 2**63, 2), 0, 0)], bytes(64)), "behind the file's end"),
        (file_of([], [tensor("a", (8, 5), 0, 0)], bytes(128)), "behind the file's end"),
        (file_of([pair("general.alignment", 4, struct.pack("<I", 0))], TWO, bytes(160)), "alignment 0"),
        (file_of([pair("general.alignment", 4, struct.pack("<I", 48))], TWO, bytes(160)), "alignment 48"),
        (file_of([pair("general.alignment", 4, struct.pack("<I", 2**31))], TWO, bytes(160)), "behind the file's end"),
        (file_of([pair("general.alignment", 8, text("32"))], TWO, bytes(160)), "alignment '32'"),
        (file_of([pair("general.alignment", 7, b"\1")], TWO, bytes(160)), "alignment True"),
    ],
)
def test_a_file_that_lies_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(content)
    with pytest.raises(DamagedFile, match=message):
        read(path)


@pytest.mark.parametrize(
    ("content", "message"), [(header(0, 0, order=">"), "big-endian"), (header(0, 0, version=1), "version 1")]
)
def test_other_kinds_of_gguf_are_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(content + bytes(100))
    with pytest.raises(Unsupported, match=message):
        read(tmp_path / "a.gguf")


def test_another_alignment_is_followed(tmp_path: Path) -> None:
    stated = [ARCHITECTURE, pair("general.alignment", 4, struct.pack("<I", 64))]
    tensors = [tensor("a", (8,), 0, 0), tensor("b", (8,), 0, 64)]
    values = numpy.arange(24, dtype="<f4")
    (tmp_path / "a.gguf").write_bytes(file_of(stated, tensors, values.tobytes(), 64))
    found = read(tmp_path / "a.gguf").tensors
    assert found["b"].floats().tolist() == values[16:].tolist()


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is a folder"):
        read(tmp_path)
    with pytest.raises(ReferenceNotFound, match="no file"):
        read(tmp_path / "missing.gguf")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("flips") / "a.gguf"


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(4, 800), st.integers(1, 255)), min_size=1, max_size=6))
def test_flipped_bytes_are_refused_or_read_in_bounds(
    flips: list[tuple[int, int]], pieces: list[bytes], scratch: Path
) -> None:
    content = bytearray(b"".join(pieces))
    for place, change in flips:
        content[place % len(content)] ^= change
    scratch.write_bytes(content)
    try:
        file = read(scratch)
        for entry in file.tensors.values():
            entry.floats()
    except SmidgenError as error:
        assert str(error)


def test_lies_cost_neither_time_nor_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    huge = [pair("a", 9, struct.pack("<IQ", kind, 2**40)) for kind in (0, 4, 8, 9, 10)]
    tracemalloc.start()
    started = time.perf_counter()
    for lie in (*(file_of([entry], []) for entry in huge), header(2**64 - 1, 2**64 - 1)):
        path.write_bytes(lie)
        os.truncate(path, 1 << 32)  # sparse: 4 GiB of zeros follow
        with pytest.raises(DamagedFile):
            read(path)
    assert time.perf_counter() - started < 5
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()
