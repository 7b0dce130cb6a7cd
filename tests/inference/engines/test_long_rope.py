"""Short texts are computed with the short factors of a long rope, as transformers computes them."""

import pytest
import torch
from transformers import Phi3Config, Phi3ForCausalLM

from smidgen.export import gguf
from smidgen.inference.engine import open_engine
from smidgen.inference.llama_server import DEFAULT_CONTEXT, default_context
from smidgen.inference.options import GenerationOptions
from smidgen.inference.scoring import PromptScorer
from smidgen.models import families
from smidgen.models.lineage import Lineage, Origin
from smidgen.models.model import Model

ORIGINAL = 512
ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "original_max_position_embeddings": ORIGINAL,
    "short_factor": [1.0 + 0.1 * pair for pair in range(8)],
    "long_factor": [8.0 + 3 * pair for pair in range(8)],
}


@pytest.fixture(scope="module")
def phi(published_tokenizer):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = Phi3Config(
        **{"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2},
        **{"intermediate_size": 96, "vocab_size": 1024, "max_position_embeddings": 8192, "initializer_range": 0.25},
        **{"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "sliding_window": None},
        rope_parameters=ROPE,
        original_max_position_embeddings=ORIGINAL,
    )
    family = families.for_architecture("Phi3ForCausalLM")
    origin = Origin("tiny", "0" * 64, 1, 1)
    return Model(Phi3ForCausalLM(config).eval(), published_tokenizer("phi", 1024), family, Lineage(origin))


def test_a_short_text_is_continued_as_transformers_continues_it(phi, tmp_path):
    gguf.write(phi, tmp_path / "phi.gguf", float_format="float32")
    prompt = "def parse(self, argument):\n    return argument" * 3
    ids = phi.tokenizer(prompt, return_tensors="pt")["input_ids"]
    wanted = phi.module.generate(ids, max_new_tokens=6, do_sample=False, eos_token_id=None, pad_token_id=0)
    expected = phi.tokenizer.decode(wanted[0, ids.shape[1] :], skip_special_tokens=True)
    options = GenerationOptions.from_mapping({"temperature": 0, "num_predict": 6, "stop": []})
    answers = {}
    for context in (None, ORIGINAL, 2 * ORIGINAL):
        with open_engine(tmp_path / "phi.gguf", threads=1, context=context) as engine:
            answers[context] = "".join(chunk.text for chunk in engine.complete(prompt, options))
    assert answers[None] == answers[ORIGINAL] == expected
    assert answers[2 * ORIGINAL] != expected, "the factors matter"
    with torch.no_grad():
        logits = phi.module(input_ids=ids, use_cache=False).logits[0].double()
    with PromptScorer(tmp_path / "phi.gguf", threads=1, context=default_context(tmp_path / "phi.gguf")) as scorer:
        found = torch.from_numpy(scorer.logits(ids[0].tolist()).copy()).double()
    assert float(torch.cosine_similarity(found.flatten(), logits.flatten(), dim=0)) > 0.99999


def test_the_default_context_is_that_of_the_short_factors(phi, tmp_path):
    gguf.write(phi, tmp_path / "phi.gguf")
    assert default_context(tmp_path / "phi.gguf") == ORIGINAL
    plain = phi.clone()
    plain.config.rope_parameters = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0}
    gguf.write(plain, tmp_path / "plain.gguf")
    assert default_context(tmp_path / "plain.gguf") == default_context(None) == DEFAULT_CONTEXT
