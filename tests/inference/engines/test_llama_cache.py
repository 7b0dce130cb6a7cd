"""Types of the key/value cache reach llama.cpp."""

from __future__ import annotations

from pathlib import Path

import pytest

from smidgen.errors import ReferenceNotFound, Unsupported
from smidgen.inference.engine import open_engine
from smidgen.inference.engines.llama_cpp import LlamaCpp
from smidgen.inference.options import GenerationOptions


def test_a_coarser_cache_takes_less_memory_and_answers(smollm2_gguf: Path) -> None:
    """8,192 tokens of 30 layers with 3 heads of 64: 377 MB as float32, 100 MB in Q8_0."""
    resident = {}
    for kind in ("f32", "q8_0"):
        with open_engine(smollm2_gguf, threads=1, context=8192, type_k=kind, type_v=kind) as engine:
            assert isinstance(engine, LlamaCpp)
            chunks = list(engine.complete("The capital of France is", GenerationOptions(temperature=0, num_predict=2)))
            assert "Paris" in "".join(chunk.text for chunk in chunks)
            resident[kind] = engine.resident_bytes()
    assert resident["f32"] - resident["q8_0"] > 150_000_000


def test_types_that_are_not_there_are_refused(smollm2_gguf: Path) -> None:
    with pytest.raises(ReferenceNotFound, match="q8_0"):
        open_engine(smollm2_gguf, type_k="q8")
    with pytest.raises(Unsupported, match="Echo has no option type_v"):
        open_engine("echo", type_v="q8_0")
