"""Documents sorted by the echo engine's vectors, which count words, and by a real reranker with random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import httpx
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from smidgen.models.store import Store

Ask = Callable[..., httpx.Response]
ASKED = {"model": "echo", "query": "red apple pie", "documents": ["green pear", "red apple", {"text": "red apple pie"}]}


def test_documents_are_sorted_by_how_near_they_are(ask: Ask) -> None:
    made = ask("POST", "/v1/rerank", ASKED | {"return_documents": True}).json()
    assert [result["index"] for result in made["results"]] == [2, 1, 0]
    assert made["results"][0]["relevance_score"] == pytest.approx(1.0)
    assert made["results"][0]["document"] == {"text": "red apple pie"}
    scores = [result["relevance_score"] for result in made["results"]]
    assert scores == sorted(scores, reverse=True)
    assert (made["model"], made["scored_by"]) == ("echo", "pooled embeddings")
    assert made["usage"] == {"prompt_tokens": 10, "total_tokens": 10}


def test_only_the_best_are_given_where_that_is_asked_for(ask: Ask) -> None:
    [best] = ask("POST", "/v1/rerank", ASKED | {"top_n": 1}).json()["results"]
    assert best["index"] == 2 and "document" not in best


@pytest.mark.parametrize("fields", [{"query": ""}, {"documents": []}, {"documents": [{"body": "x"}]}, {"top_n": 0}])
def test_what_cannot_be_sorted_is_refused(ask: Ask, fields: dict[str, Any]) -> None:
    answer = ask("POST", "/v1/rerank", ASKED | fields)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "green", "apple", "pear", "pie"]
PREFIXES = {
    "bert.embeddings.word_embeddings.": "token_embd.",
    "bert.embeddings.position_embeddings.": "position_embd.",
    "bert.embeddings.token_type_embeddings.": "token_types.",
    "bert.embeddings.LayerNorm.": "token_embd_norm.",
    "bert.pooler.dense.": "cls.",
    "classifier.": "cls.output.",
}
PARTS = {
    "attention.self.query.": "attn_q.",
    "attention.self.key.": "attn_k.",
    "attention.self.value.": "attn_v.",
    "attention.output.dense.": "attn_output.",
    "attention.output.LayerNorm.": "attn_output_norm.",
    "intermediate.dense.": "ffn_up.",
    "output.dense.": "ffn_down.",
    "output.LayerNorm.": "layer_output_norm.",
}
for block in range(2):
    PREFIXES |= {f"bert.encoder.layer.{block}.{theirs}": f"blk.{block}.{ours}" for theirs, ours in PARTS.items()}


def write_reranker(path: Path) -> BertForSequenceClassification:
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        num_labels=1,
        initializer_range=0.4,
    )
    model = BertForSequenceClassification(config).eval()
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_block_count(2)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_layer_norm_eps(config.layer_norm_eps)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.RANK)
    writer.add_tokenizer_model("bert")
    writer.add_token_list([word if word.startswith("[") else f"▁{word}" for word in WORDS])
    writer.add_token_types([3] * 4 + [1] * (len(WORDS) - 4))
    writer.add_token_type_count(2)
    for number, name in enumerate(("padding", "unknown", "bos", "seperator")):
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", number)
    for name, weight in model.state_dict().items():
        theirs = next(prefix for prefix in PREFIXES if name.startswith(prefix))
        writer.add_tensor(PREFIXES[theirs] + name.removeprefix(theirs), weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def test_a_reranker_scores_itself(ask: Ask, tmp_path: Path) -> None:
    model = write_reranker(tmp_path / "model.gguf")
    Store().add("ranker", {"model.gguf": tmp_path / "model.gguf"}, {"license": ["MIT"]})
    texts = ["green pear", "red pie", "apple"]
    asked = {"model": "ranker", "query": "red apple", "documents": texts}
    answer = ask("POST", "/v1/rerank", asked, threads=1)
    assert answer.status_code == 200, answer.text
    made = answer.json()
    assert made["scored_by"] == "reranker" and made["usage"]["total_tokens"] > 0
    with torch.inference_mode():
        for result in made["results"]:
            words = ["[CLS]", "red", "apple", "[SEP]", *texts[result["index"]].split()]
            expected = model(input_ids=torch.tensor([[WORDS.index(word) for word in words]])).logits
            assert result["relevance_score"] == pytest.approx(float(expected), abs=0.01)
    scores = [result["relevance_score"] for result in made["results"]]
    assert len(set(scores)) == 3 and scores == sorted(scores, reverse=True)
