"""Heads that do not divide the width: transformers refuses such a Llama, so it is written as a Mistral or refused."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from smidgen.errors import Unsupported
from smidgen.export import gguf, safetensors
from smidgen.inference.scoring import PromptScorer
from smidgen.models.load import read_folder, read_gguf
from smidgen.shrink.prune.prune import Prune

THREE_HEADS = {"hidden_size": 96, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 16}


def logits(module, tokens):
    with torch.no_grad():
        return module(input_ids=tokens, use_cache=False).logits


@pytest.mark.parametrize("operation", [Prune("width", keep=64), Prune("head", keep=2)])
def test_a_cut_llama_is_loaded_by_transformers_and_by_the_engine(tiny_model, windows, tmp_path, operation):
    sizes = {"hidden_size": 99, "head_dim": 32} if operation.structure == "head" else {}
    model = tiny_model(**THREE_HEADS | sizes)
    cut = operation.apply(model, windows)
    assert cut.config.hidden_size % cut.config.num_attention_heads
    assert cut.config.architectures == ["MistralForCausalLM"] and "MistralForCausalLM" in str(cut.lineage.to_dict())
    expected = logits(cut.module, windows[:1])
    safetensors.write(cut, tmp_path / "model", dtype="float32")
    for module in (
        AutoModelForCausalLM.from_pretrained(tmp_path / "model"),
        read_folder(tmp_path / "model", torch.float32).module,
    ):
        torch.testing.assert_close(logits(module, windows[:1]), expected, rtol=0, atol=1e-5)
    if operation.structure == "width":
        gguf.write(cut, tmp_path / "out.gguf", float_format="float32")
        again = read_gguf(tmp_path / "out.gguf", torch.float32)
        torch.testing.assert_close(logits(again.module, windows[:1]), expected, rtol=0, atol=1e-5)
        with PromptScorer(tmp_path / "out.gguf", threads=1, context=64) as scorer:
            found = torch.from_numpy(scorer.logits(windows[0].tolist()).copy())
        assert float(torch.cosine_similarity(found.flatten(), expected[0].flatten(), dim=0)) > 0.9999


@pytest.mark.parametrize(("family", "changes"), [("llama", {"attention_bias": True}), ("gemma2", {})])
def test_what_neither_can_hold_is_refused(tiny_model, windows, family, changes):
    with pytest.raises(Unsupported, match="divide the width"):
        Prune("width", keep=64).apply(tiny_model(family, **THREE_HEADS | changes), windows)
