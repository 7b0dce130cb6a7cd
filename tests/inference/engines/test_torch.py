"""The torch engine on folders: what it answers is what transformers computes, and packed stays packed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from smidgen import formats
from smidgen.errors import InvalidInput, ReferenceNotFound, Unsupported
from smidgen.evaluate.quality import compare_models
from smidgen.export import gguf, packed, safetensors
from smidgen.inference.engine import Chunk, Demands, Message, TextEngine, open_engine
from smidgen.inference.engines.torch import Torch
from smidgen.inference.options import GenerationOptions
from smidgen.inference.scoring import PromptScorer, Subject
from smidgen.inference.structured import schema_of
from smidgen.models import families
from smidgen.models.lineage import Lineage, Origin
from smidgen.models.load import read_folder
from smidgen.models.model import Model, PackedTensor

TEXT = "The parser reads arguments: naïve 日本語, and then it prints a usage message."


def build(tokenizer: Any, hidden: int = 64, layers: int = 2, **changes: Any) -> Model:
    config = LlamaConfig(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=2 * hidden, vocab_size=400, max_position_embeddings=128, initializer_range=0.2,
        tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=0, **changes,
    )  # fmt: skip
    torch.manual_seed(0)
    family = families.for_architecture("LlamaForCausalLM")
    return Model(LlamaForCausalLM(config).eval(), tokenizer, family, Lineage(Origin("tiny", "0" * 64, 1, 1)))


def stored(model: Model, name: str) -> Model:
    """Pack every matrix, and let the module hold what the bytes stand for."""
    model, found = model.clone(), {}
    for key in model.anatomy.matrices():
        number_format, weight = formats.find(name), model.weight(key)
        data = number_format.quantize(weight.detach())
        found[key] = PackedTensor(name, data, (weight.shape[0], weight.shape[1]))
        weight.data = number_format.unpack(data)
    return replace(model, packed=found)


@pytest.fixture(scope="module")
def model(published_tokenizer: Callable[..., Any]) -> Model:
    return stored(build(published_tokenizer("smollm", 400)), "kmeans:bits=3")


@pytest.fixture(scope="module")
def folder(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("torch") / "packed"
    packed.write(model, path, dtype="float32")
    return path


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Torch]:
    with open_engine(folder, threads=1) as opened:
        assert isinstance(opened, Torch)
        yield opened


def text_of(chunks: list[Chunk]) -> str:
    return "".join(chunk.text for chunk in chunks)


def greedy(count: int, **options: Any) -> GenerationOptions:
    return GenerationOptions(temperature=0, num_predict=count, **options)


def test_a_folder_is_answered_as_transformers_computes_it(engine: Torch, model: Model) -> None:
    ids = model.tokenizer(TEXT, return_tensors="pt").input_ids
    whole = model.module.generate(ids, max_new_tokens=16, do_sample=False, eos_token_id=None, pad_token_id=0)
    chunks = list(engine.complete(TEXT, greedy(16)))
    expected = b"".join(engine._opened().piece(token) for token in whole[0, ids.shape[1] :].tolist())
    assert chunks[-1].metrics is not None and chunks[-1].metrics.prompt_tokens == ids.shape[1]
    found = text_of(chunks)
    assert found and expected.decode(errors="ignore").startswith(found)
    if chunks[-1].reason == "length":
        assert chunks[-1].metrics.generated_tokens == 16


def test_seeds_repeat_samples_and_penalties_change_them(engine: Torch) -> None:
    wild = GenerationOptions(temperature=2.0, top_k=0, top_p=1.0, seed=4, num_predict=12)
    first = text_of(list(engine.complete(TEXT, wild)))
    assert first == text_of(list(engine.complete(TEXT, wild)))
    assert first != text_of(list(engine.complete(TEXT, replace(wild, seed=5))))
    plain = text_of(list(engine.complete(TEXT, greedy(12))))
    assert plain != text_of(list(engine.complete(TEXT, greedy(12, repeat_penalty=50.0, repeat_last_n=-1))))


def test_two_answers_at_once_do_not_disturb_each_other(engine: Torch) -> None:
    alone = [text_of(list(engine.complete(prompt, greedy(8)))) for prompt in ("One", "Another one")]
    answers = [engine.complete(prompt, greedy(8)) for prompt in ("One", "Another one")]
    written = ["", ""]
    for _ in range(20):
        for place, answer in enumerate(answers):
            written[place] += next(answer, Chunk("")).text
    assert written == alone


def test_the_context_bounds_an_answer(folder: Path) -> None:
    with open_engine(folder, threads=1, context=24) as small:
        prompt = "usage message"
        last = list(small.complete(prompt, GenerationOptions(temperature=0)))[-1]
        assert last.metrics is not None
        assert last.metrics.prompt_tokens + last.metrics.generated_tokens == 24 or last.reason == "stop"
        with pytest.raises(InvalidInput, match="the context holds 24"):
            list(small.complete(TEXT * 3, greedy(4)))


def test_conversations_need_a_template_and_a_message(engine: Torch, folder: Path, tmp_path: Path) -> None:
    assert text_of(list(engine.chat([Message("user", "Hello")], greedy(4)))) is not None
    with pytest.raises(InvalidInput, match="without messages"):
        list(engine.chat([], greedy(4)))
    engine._opened().tokenizer.chat_template, kept = None, engine._opened().tokenizer.chat_template
    try:
        with pytest.raises(InvalidInput, match="no chat template"):
            list(engine.chat([Message("user", "Hello")], greedy(4)))
    finally:
        engine._opened().tokenizer.chat_template = kept


def test_what_cannot_be_opened(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InvalidInput, match="needs a model"):
        open_engine("echo", engine="torch")
    with pytest.raises(ReferenceNotFound):
        Torch(tmp_path / "nothing")
    with pytest.raises(Unsupported, match="GGUF files"):
        open_engine(folder, engine="llama_cpp")


def test_pieces_and_scores_are_those_of_llama_cpp(published_tokenizer: Callable[..., Any], tmp_path: Path) -> None:
    """The same model as GGUF in llama.cpp and as a folder in torch."""
    for splitting in ("smollm", "gemma"):
        whole = build(published_tokenizer(splitting, 400))
        gguf.write(whole, tmp_path / f"{splitting}.gguf", float_format="float32")
        safetensors.write(whole, tmp_path / splitting, dtype="float32")
        with (
            PromptScorer(tmp_path / f"{splitting}.gguf", threads=1) as one,
            PromptScorer(tmp_path / splitting, threads=1) as two,
        ):
            assert one.pieces() == two.pieces() and one.bos_token == two.bos_token
            ids = two.tokenize(TEXT)
            assert one.tokenize(TEXT) == ids and two.detokenize(ids).strip() == TEXT
            assert one.tokenize("<|im_start|>a", special=True) == two.tokenize("<|im_start|>a", special=True)
            assert len(two.tokenize("<|im_start|>")) > 1
            torch.testing.assert_close(
                torch.from_numpy(one.logits(ids, start=3)),
                torch.from_numpy(two.logits(ids, start=3)),
                atol=0.03,
                rtol=0,
            )
            if splitting == "smollm":
                with PromptScorer(Subject(tmp_path / "smollm.gguf", "torch"), threads=1) as three:
                    assert abs(three.logits(ids) - two.logits(ids)).max() < 1e-4


def test_a_large_packed_model_is_never_unpacked(published_tokenizer: Callable[..., Any], tmp_path: Path) -> None:
    """Sixteen blocks: 412 MB as bfloat16, 109 MB packed in 4 bits; what one product needs does not grow with them."""
    tokenizer, name = published_tokenizer("smollm", 400), "integer:bits=4"
    packed.write(stored(build(tokenizer), name), tmp_path / "small")
    config = LlamaConfig(
        hidden_size=1024, num_hidden_layers=16, num_attention_heads=8, num_key_value_heads=8, intermediate_size=2816,
        vocab_size=400, max_position_embeddings=128, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    with torch.device("meta"):
        module = LlamaForCausalLM(config)
    tile = formats.find(name).quantize(torch.randn(8, 2816) * 0.02)
    found = {
        key: PackedTensor(name, _tiled(tile, value.shape), (value.shape[0], value.shape[1]))
        for key, value in module.state_dict().items()
        if value.ndim == 2 and key != "lm_head.weight"
    }
    state = {key: torch.ones(value.shape) for key, value in module.state_dict().items() if value.ndim == 1}
    module.load_state_dict(state, strict=False, assign=True)
    family = families.for_architecture("LlamaForCausalLM")
    packed.write(Model(module, tokenizer, family, Lineage(Origin("big", "0" * 64, 1, 1)), found), tmp_path / "big")
    stored_bytes = (tmp_path / "big" / "packed.safetensors").stat().st_size
    peaks = {}
    for size in ("small", "big"):
        with PromptScorer(tmp_path / size, threads=1, context=64) as scorer:
            scorer.time_prefill(16)
            scorer.time_decode(2, depth=16)
            peaks[size] = scorer.peak_rss_bytes()
    floats = 2 * sum(each.shape[0] * each.shape[1] for each in found.values())
    assert stored_bytes < floats / 3
    assert peaks["big"] - peaks["small"] < stored_bytes + floats / 3


def _tiled(tile: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    width = formats.find("integer:bits=4").bytes_for((1, shape[1]))
    return tile[:, :width].repeat(-(-shape[0] // 8), 1)[: shape[0]].contiguous()


def test_measuring_a_packed_folder_runs_it(model: Model, folder: Path, tmp_path: Path) -> None:
    from smidgen.evaluate.measure import measure

    original = build(model.tokenizer)
    gguf.write(original, tmp_path / "source.gguf", float_format="float32")
    text = tmp_path / "text.txt"
    text.write_text(TEXT * 60, encoding="utf-8")
    (found,) = measure(
        str(folder), against=str(tmp_path / "source.gguf"), texts=[text], windows=1, speed=False, threads=1
    )
    quality = found.quality[0].to_dict()
    assert found.path == folder and found.bits_per_weight < 8 and found.memory.peak_rss_bytes > 0
    ids = torch.tensor([model.tokenizer(text.read_text()).input_ids[: quality["length"]]])
    expected = compare_models(original, model, ids, name="text")
    assert quality["kl_mean"] == pytest.approx(expected.kl_mean, rel=1e-3) and quality["kl_mean"] > 0.01
    assert json.dumps(found.to_dict())
    assert read_folder(folder, torch.float32).packed.keys() == model.packed.keys()


def test_answers_are_held_to_schemas_grammars_and_biases(engine: Torch) -> None:
    schema = schema_of(
        {"properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["n"], "type": "object"},
        most_bytes=999,
    )
    wild = GenerationOptions(temperature=1.0, top_p=1.0, top_k=0, seed=3, num_predict=60)
    chunks = list(engine.write(TEXT, wild, Demands(schema)))
    assert set(json.loads(text_of(chunks))) == {"n"} and chunks[-1].reason == "stop"
    assert text_of(list(engine.write(TEXT, wild, Demands(grammar='root ::= "ab" | "cd"')))) in ("ab", "cd")
    (letter,) = engine.tokenize("x")
    biased = greedy(3, repeat_penalty=1.0)
    assert text_of(list(engine.write(TEXT, biased, Demands(biases={letter: 1e6, 10**6: 1.0})))) == "xxx"
    engine.hold_to(schema)
    try:
        assert json.loads(text_of(list(engine.complete(TEXT, wild)))).keys() == {"n"}
    finally:
        engine.hold_to(None)
    with pytest.raises(InvalidInput, match="invalid grammar"):
        list(engine.write(TEXT, wild, Demands(grammar="root ::= nothing")))


def test_stop_texts_special_tokens_and_states_are_told(engine: Torch, model: Model) -> None:
    assert isinstance(engine, TextEngine) and engine.resident_bytes() > 10_000
    ids = engine.tokenize("<|im_start|>a")
    assert engine.detokenize(ids) == "<|im_start|>a" and ids[0] == 1
    with pytest.raises(InvalidInput, match="below 400"):
        engine.detokenize([400])
    mark = Demands(biases={1: 1e6}, marks=("<|im_start|>",))
    last = list(engine.write(ids, greedy(4, stop=("start",)), mark))[-1]
    assert (last.reason, last.stop_text) == ("stop", "start")
    assert not text_of(list(engine.write(ids, greedy(2), Demands(biases={1: 1e6}))))
    states = model.module.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0)
    assert engine.embed(ids) == pytest.approx(states.tolist(), abs=0.05)
