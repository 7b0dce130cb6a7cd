"""Our fitting beside llama.cpp's own quantizer, called in the engine's shared library."""

from __future__ import annotations

import ctypes
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import xllamacpp

from smidgen import formats
from smidgen.formats._block import BlockFormat

KNOWN = map(formats.find, formats.names())
BLOCKS = [each for each in KNOWN if isinstance(each, BlockFormat) and each.ggml_type is not None]
each_block = pytest.mark.parametrize("number_format", BLOCKS, ids=lambda each: each.name)
ROWS, COLUMNS = 96, 512


def peer(number_format: BlockFormat, weights: torch.Tensor, importance: torch.Tensor | None) -> torch.Tensor:
    """Quantize with llama.cpp and read the result with gguf."""
    library = ctypes.CDLL(str(next(Path(xllamacpp.__file__).parent.glob("xllamacpp*.so"))))
    chunk = library.ggml_quantize_chunk
    chunk.restype = ctypes.c_size_t
    chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    rows, columns = weights.shape
    source = np.ascontiguousarray(weights.numpy(), dtype=np.float32)
    packed = np.zeros((rows, number_format.bytes_for((1, columns))), np.uint8)
    counts = None if importance is None else np.ascontiguousarray(importance.numpy(), dtype=np.float32)
    counted = None if counts is None else counts.ctypes.data
    written = chunk(number_format.ggml_type, source.ctypes.data, packed.ctypes.data, 0, rows, columns, counted)
    assert written == packed.nbytes
    kind = gguf.GGMLQuantizationType(number_format.ggml_type)
    return torch.from_numpy(np.array(gguf.quants.dequantize(packed, kind), dtype=np.float32))


def made(shape: str, seed: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(ROWS, COLUMNS, generator=generator)
    if shape == "gaussian":
        return normal * 0.05
    squares = torch.randn(3, ROWS, COLUMNS, generator=generator).square().mean(0)
    return normal / squares.sqrt() * 0.05  # Student's t with 3 degrees of freedom


def harm(weights: torch.Tensor, decoded: torch.Tensor, importance: torch.Tensor | None = None) -> float:
    square = (weights - decoded).square()
    return float((square if importance is None else square * importance).sum())


def ours(number_format: BlockFormat, weights: torch.Tensor, importance: torch.Tensor | None = None) -> torch.Tensor:
    return number_format.unpack(number_format.quantize(weights, importance))


@each_block
@pytest.mark.parametrize("shape", ["gaussian", "heavy-tailed"])
@pytest.mark.parametrize("weighted", [True, False], ids=["weighted", "plain"])
def test_our_error_is_below_the_peers(number_format, shape, weighted):
    weights = made(shape)
    importance = torch.rand(COLUMNS, generator=torch.Generator().manual_seed(4)).pow(4) + 1e-3 if weighted else None
    our_harm = harm(weights, ours(number_format, weights, importance), importance)
    assert our_harm < 0.98 * harm(weights, peer(number_format, weights, importance), importance)


@pytest.mark.parametrize("name", ["q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"])
@pytest.mark.parametrize("shape", ["gaussian", "heavy-tailed"])
def test_weights_on_the_formats_own_grid_are_kept_exactly(name, shape):
    number_format = formats.find(name)
    assert isinstance(number_format, BlockFormat)
    source = peer(number_format, made(shape), None)
    assert torch.equal(ours(number_format, source), source)
    importance = torch.rand(COLUMNS, generator=torch.Generator().manual_seed(4)) + 0.1
    assert torch.equal(ours(number_format, source, importance), source)


@each_block
@pytest.mark.parametrize("weighted", [True, False], ids=["weighted", "plain"])
def test_quantizing_what_the_peer_quantized_adds_hardly_anything(number_format, weighted):
    weights = made("gaussian")
    importance = torch.rand(COLUMNS, generator=torch.Generator().manual_seed(4)) + 0.1 if weighted else None
    source = peer(number_format, weights, importance)
    assert harm(source, ours(number_format, source)) < 0.02 * harm(weights, source)
