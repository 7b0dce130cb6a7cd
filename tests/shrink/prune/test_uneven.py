"""Cuts after which blocks differ: they reload, run in llama.cpp, and share out what stays by the scores."""

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM

from smidgen import divergence
from smidgen.errors import DamagedFile, InvalidInput, Unsupported
from smidgen.export import gguf, safetensors
from smidgen.inference.scoring import PromptScorer
from smidgen.models import families, uneven
from smidgen.models.checkpoint import gguf as container
from smidgen.models.lineage import Lineage, Origin
from smidgen.models.load import read_folder, read_gguf
from smidgen.models.model import Model
from smidgen.shrink.distill.distill import Distill
from smidgen.shrink.prune.allocation import allocate, outlier_sparsities, standardised
from smidgen.shrink.prune.prune import Prune
from smidgen.shrink.prune.structures.head import Head
from smidgen.shrink.prune.structures.layer import Layer
from smidgen.shrink.prune.structures.neuron import Neuron

build_tokenizer = runpy.run_path(str(Path(__file__).parents[1] / "conftest.py"))["build_tokenizer"]
CASES = {
    "heads": Prune("head", allocation=(4, 2, 2)),
    "groups": Prune("head", whole_groups=True, allocation=(2, 4, 2)),
    "without attention": Prune("head", allocation=(2, 0, 4)),
    "neurons": Prune("neuron", allocation=(32, 128, 96)),
    "without MLP": Prune("neuron", allocation=(128, 0, 64)),
    "last without MLP": Prune("neuron", allocation=(0, 128, 0)),
}


def logits(model, tokens):
    with torch.no_grad():
        return model.module(input_ids=tokens, use_cache=False).logits.float()


def shapes(model):
    return [(block.query_heads, block.key_value_heads, block.neurons) for block in model.anatomy.blocks]


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("case", CASES)
def test_blocks_that_differ_reload_in_smidgen(tiny_model, windows, tmp_path, family, case):
    model = tiny_model(family, tie_word_embeddings=family == "llama")
    result = CASES[case].apply(model, windows)
    assert len({*shapes(result)}) > 1 and shapes(model) == [(4, 2, 128)] * 3
    safetensors.write(result, tmp_path / "model", dtype="float32")
    again = read_folder(tmp_path / "model", torch.float32)
    assert shapes(again) == shapes(result) and again.lineage == result.lineage
    torch.testing.assert_close(logits(again, windows), logits(result, windows), rtol=0, atol=1e-6)
    assert not any(value.is_meta for value in [*again.module.parameters(), *again.module.buffers()])
    prompt, settings = torch.tensor([[5, 6, 7]]), {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    cached, plain = (again.module.generate(prompt, use_cache=use, pad_token_id=0, **settings) for use in (True, False))
    assert torch.equal(cached, plain)
    again.module(input_ids=windows, labels=windows).loss.backward()
    assert all(parameter.grad is not None for parameter in again.module.model.layers[0].mlp.parameters())


@pytest.mark.parametrize("case", CASES)
def test_blocks_that_differ_run_in_llama_cpp(tiny_model, windows, tmp_path, case):
    result = CASES[case].apply(tiny_model("llama", vocab_size=1024), windows)
    path = tmp_path / "model.gguf"
    gguf.write(result, path, float_format="float32")
    with PromptScorer(path, threads=1, context=32) as scorer:
        found = torch.from_numpy(scorer.logits(windows[0].tolist()).copy())
    assert float(divergence.kl(logits(result, windows[:1])[0], found).max()) < 1e-4


def test_rope_factors_reach_llama_cpp_too(tiny_model, windows, tmp_path):
    rope = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    model = tiny_model("llama", vocab_size=1024, rope_parameters=rope, tie_word_embeddings=False)
    result = Prune("head", allocation=(2, 0, 4)).apply(model, windows)
    gguf.write(result, tmp_path / "model.gguf", float_format="float32")
    with PromptScorer(tmp_path / "model.gguf", threads=1, context=32) as scorer:
        found = torch.from_numpy(scorer.logits(windows[0].tolist()).copy())
    assert float(divergence.kl(logits(result, windows[:1])[0], found).max()) < 1e-4
    plain = tiny_model("llama", vocab_size=1024, tie_word_embeddings=False)
    assert (logits(plain, windows) - logits(model, windows)).abs().max() > 1e-3  # the scaling matters


def test_a_gguf_of_blocks_that_differ_is_refused_where_llama_cpp_has_none(tiny_model, windows, tmp_path):
    result = CASES["neurons"].apply(tiny_model("qwen2"), windows)
    with pytest.raises(Unsupported, match="all alike"):
        gguf.write(result, tmp_path / "model.gguf")
    assert not any(tmp_path.iterdir())


def test_a_removed_attention_is_one_that_adds_nothing(tiny_model, windows):
    model = tiny_model()
    result = Prune("head", allocation=(4, 0, 4), repair=False).apply(model, windows)
    silent = model.clone()
    with torch.no_grad():
        silent.weight("model.layers.1.self_attn.o_proj.weight").zero_()
    torch.testing.assert_close(logits(result, windows), logits(silent, windows), rtol=0, atol=1e-5)


def test_blocks_that_differ_can_be_cut_further(tiny_model, windows):
    result = CASES["without attention"].apply(tiny_model(num_hidden_layers=3), windows)
    fewer = Layer().remove(result, torch.tensor([0, 1]))
    assert shapes(fewer) == [(2, 2, 128), (0, 0, 128)] and fewer.lineage.kept_heads == result.lineage.kept_heads[:2]
    alike = Layer().remove(result, torch.tensor([0]))
    assert not hasattr(alike.config, "smidgen") and alike.config.num_attention_heads == 2
    narrow = Prune("neuron", "taylor", keep=64, uneven=True, rounds=2).apply(result, windows)
    assert sum(shape[2] for shape in shapes(narrow)) <= 3 * 64 and [shape[:2] for shape in shapes(narrow)] == [
        (2, 2),
        (0, 0),
        (4, 2),
    ]
    for step in (Prune("width", keep=32), Prune("weight", sparsity=0.5), Prune("vocabulary", keep=256)):
        if step.structure != "vocabulary":
            assert logits(step.apply(narrow, windows), windows).isfinite().all()


def test_an_uneven_cut_keeps_the_highest_scores_of_all_blocks(tiny_model, windows):
    model = tiny_model()
    scores = torch.arange(3 * 128.0).reshape(3, 128)  # on one scale the last block is worth most
    assert allocate(model, Neuron(), scores, 64, comparable=True) == [0, 64, 128]
    assert allocate(model, Neuron(), scores, 64, comparable=False) == [64, 64, 64]
    heads = torch.arange(12.0).reshape(3, 4)
    assert allocate(model, Head(), heads, 2, comparable=True) == [2, 0, 4]  # the first keeps one set
    result = Prune("neuron", "taylor", keep=64, uneven=True).apply(model, windows)
    assert sum(shape[2] for shape in shapes(result)) == 3 * 64


def test_scores_of_a_block_are_standardised_without_the_filling():
    scores = torch.tensor([[1.0, 3.0, -1.0], [2.0, 4.0, 6.0]])
    found = standardised(scores)
    assert found[0].tolist() == [-1.0, 1.0, -1.0] and float(found[1].mean()) == pytest.approx(0, abs=1e-6)


def test_blocks_with_outliers_lose_less():
    found = outlier_sparsities([0.01, 0.05, 0.02], 0.5)
    assert sum(found) / 3 == pytest.approx(0.5) and found[1] == min(found) and max(found) - min(found) <= 0.16 + 1e-9
    assert outlier_sparsities([0.1, 0.1], 0.5) == [0.5, 0.5]


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (Prune("head", allocation=(2, 2)), "lists 2 blocks, and the model has 3"),
        (Prune("head", allocation=(0, 2, 2)), "Layer 0 cannot keep 0"),
        (Prune("head", allocation=(2, 3, 2)), "multiples of 2 from 0 to 4"),
        (Prune("neuron", allocation=(32, 64, 256)), "Layer 2 cannot keep 256"),
    ],
)
def test_allocations_that_do_not_fit_the_model_are_refused(tiny_model, windows, step, said):
    with pytest.raises(InvalidInput, match=said):
        step.apply(tiny_model(), windows)


def test_groups_that_would_keep_different_numbers_are_refused(tiny_model):
    with pytest.raises(InvalidInput, match="different numbers"):
        Head().remove(tiny_model(), torch.tensor([[0, 1, 2]]).repeat(3, 1))


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"blocks": [{"query_heads": 4}]},
        {"blocks": [{"query_heads": 4, "key_value_heads": 2, "neurons": 128}]},
        {"blocks": [{"query_heads": 4, "key_value_heads": 3, "neurons": 128}] * 3},
        {"blocks": [{"query_heads": 4, "key_value_heads": 0, "neurons": 128}] * 3},
        {"blocks": [{"query_heads": 4, "key_value_heads": 2, "neurons": -1}] * 3},
    ],
)
def test_an_entry_that_cannot_be_is_refused(entry):
    with pytest.raises(DamagedFile):
        uneven.counts(SimpleNamespace(num_hidden_layers=3, smidgen=entry))


def test_a_folder_whose_weights_do_not_fit_its_entry_is_refused(tiny_model, windows, tmp_path):
    result = CASES["neurons"].apply(tiny_model(), windows)
    safetensors.write(result, tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text())
    config["smidgen"]["blocks"][0]["neurons"] = 64
    path.write_text(json.dumps(config))
    with pytest.raises(DamagedFile, match="do not fit"):
        read_folder(tmp_path / "model", torch.float32)


@pytest.mark.parametrize("case", CASES)
def test_blocks_that_differ_are_read_back_from_a_gguf(tiny_model, windows, tmp_path, case):
    model = tiny_model("llama", tie_word_embeddings=case != "groups")
    result = CASES[case].apply(model, windows)
    gguf.write(result, tmp_path / "model.gguf", float_format="float32")
    again = read_gguf(tmp_path / "model.gguf", torch.float32)
    assert shapes(again) == shapes(result) and again.family.architecture == "LlamaForCausalLM"
    torch.testing.assert_close(logits(again, windows), logits(result, windows), rtol=0, atol=1e-6)
    gguf.write(again, tmp_path / "again.gguf", float_format="float32")
    first, second = (container.read(tmp_path / f"{name}.gguf") for name in ("model", "again"))
    assert first.metadata == second.metadata | {"general.name": first.metadata["general.name"]}
    assert {name: tensor.data.tobytes() for name, tensor in first.tensors.items()} == {
        name: tensor.data.tobytes() for name, tensor in second.tensors.items()
    }
    safetensors.write(again, tmp_path / "folder", dtype="float32")
    folder = read_folder(tmp_path / "folder", torch.float32)
    torch.testing.assert_close(logits(folder, windows), logits(result, windows), rtol=0, atol=1e-6)


def test_what_was_read_back_is_cut_healed_and_written_again(tiny_model, windows, tmp_path):
    model = tiny_model("llama", vocab_size=1024)
    first = Prune("head", allocation=(4, 0, 2)).apply(model, windows)
    gguf.write(first, tmp_path / "first.gguf", float_format="float32")
    read = read_gguf(tmp_path / "first.gguf", torch.float32)
    cut = Prune("neuron", "l2", allocation=(96, 128, 0)).apply(read, windows)
    assert [shape[2] for shape in shapes(cut)] == [96, 128, 0] and [shape[0] for shape in shapes(cut)] == [4, 0, 2]
    healed = Distill(steps=3, batch_size=2, learning_rate=1e-3, patience=0).run(cut, model, windows, windows[:0]).model
    assert not torch.equal(logits(healed, windows), logits(cut, windows))
    gguf.write(healed, tmp_path / "second.gguf", float_format="float32")
    with PromptScorer(tmp_path / "second.gguf", threads=1, context=32) as scorer:
        found = torch.from_numpy(scorer.logits(windows[0].tolist()).copy())
    assert float(divergence.kl(logits(healed, windows[:1])[0], found).max()) < 1e-4


def test_a_mistral_of_blocks_that_differ_is_read_back_as_one(windows, tmp_path):
    config = MistralConfig(
        **{"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2},
        **{"intermediate_size": 128, "vocab_size": 400, "max_position_embeddings": 256, "sliding_window": 128},
    )
    config.architectures = ["MistralForCausalLM"]
    torch.manual_seed(0)
    module = MistralForCausalLM(config).eval()
    family = families.for_architecture("MistralForCausalLM")
    model = Model(module, build_tokenizer(400), family, Lineage(Origin("tiny", "0" * 64, 1, 1)))
    result = Prune("head", allocation=(2, 0, 4)).apply(model, windows)
    gguf.write(result, tmp_path / "model.gguf", float_format="float32")
    again = read_gguf(tmp_path / "model.gguf", torch.float32)
    assert again.family.architecture == "MistralForCausalLM" and again.config.sliding_window == 128
    assert shapes(again) == shapes(result) and again.config.max_position_embeddings == 256
    torch.testing.assert_close(logits(again, windows), logits(result, windows), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"deci.attention.head_count": [4, 2]}, "count for each of its 3 blocks"),
        ({"deci.attention.head_count": [4.0, 0.0, 2.0]}, "count for each"),
        ({"deci.attention.head_count": [4, 1, 2]}, "does not describe 3 blocks"),
        ({"deci.feed_forward_length": None}, "count for each"),
        ({"deci.feed_forward_length": [128, 128, 64]}, "in the shape"),
        ({"deci.attention.head_count": [4, 2, 2], "deci.attention.head_count_kv": [2, 1, 1]}, "lacks the tensor"),
    ],
)
def test_files_whose_counts_cannot_be_are_refused(tiny_model, windows, tmp_path, changes, said):
    result = Prune("head", allocation=(4, 0, 2)).apply(tiny_model("llama"), windows)
    gguf.write(result, tmp_path / "model.gguf", float_format="float32")
    file = container.read(tmp_path / "model.gguf")
    metadata = {name: value for name, value in (file.metadata | changes).items() if value is not None}
    container.write(tmp_path / "odd.gguf", metadata, file.tensors.values())
    with pytest.raises(DamagedFile, match=said):
        read_gguf(tmp_path / "odd.gguf", torch.float32)
