"""A model stored in each format runs in llama.cpp as it does in torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from smidgen.export import gguf
from smidgen.inference.scoring import PromptScorer
from smidgen.models import families
from smidgen.models.lineage import Lineage, Origin
from smidgen.models.load import read_gguf
from smidgen.models.model import Model
from smidgen.shrink.quantize.allocate import block_formats
from smidgen.shrink.quantize.quantize import Quantize

BLOCKS = block_formats()


@pytest.fixture(scope="module")
def model(published_tokenizer: Callable[..., Any]) -> Model:
    config = LlamaConfig(
        hidden_size=256, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2, intermediate_size=256,
        vocab_size=400, max_position_embeddings=64, initializer_range=0.1, tie_word_embeddings=False,
        bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    origin = Origin("tiny", "0" * 64, 1, 1)
    family = families.for_architecture("LlamaForCausalLM")
    return Model(LlamaForCausalLM(config).eval(), published_tokenizer("smollm", 400), family, Lineage(origin))


@pytest.mark.parametrize("name", BLOCKS)
def test_llama_cpp_computes_what_the_packed_bytes_say(model: Model, name: str, tmp_path: Path) -> None:
    ids = torch.randint(3, 400, (1, 24), generator=torch.Generator().manual_seed(1))
    small = Quantize(default=name, solver="nearest").apply(model, ids)
    gguf.write(small, tmp_path / "small.gguf")
    again = read_gguf(tmp_path / "small.gguf", torch.float32)
    for key in small.packed:
        assert torch.equal(again.weight(key), small.weight(key)), key
    with torch.no_grad():
        expected, whole = (each.module(ids).logits[0] for each in (small, model))
    with PromptScorer(tmp_path / "small.gguf", threads=1, context=24) as scorer:
        found = torch.from_numpy(numpy.array(scorer.logits(ids[0].tolist())))
    # llama.cpp rounds activations to 8 bits, which costs far less than the weights' own rounding.
    assert float((found - expected).norm() / expected.norm()) < 0.04
    assert float((found - whole).norm()) > float((found - expected).norm())
