import copy
import json
from dataclasses import asdict, replace

import pytest
import torch

from smidgen import divergence, machine
from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.export import gguf, safetensors
from smidgen.inference.scoring import PromptScorer
from smidgen.models.lineage import Lineage
from smidgen.models.load import read_folder
from smidgen.shrink.prune import prune as module
from smidgen.shrink.prune.prune import Prune
from smidgen.shrink.prune.repair import output_error
from smidgen.shrink.statistics import collect

CASES = {
    "layer": Prune("layer", "block_influence", keep=2),
    "loss": Prune("layer", "loss", keep=2),
    "neuron": Prune("neuron", "activation", keep=64),
    "unrepaired": Prune("neuron", "l2", keep=64, repair=False),
    "vocabulary": Prune("vocabulary", "use", keep=512),
}


def logits(model, tokens):
    with torch.no_grad():
        return model(input_ids=tokens, use_cache=False).logits.float()


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("case", CASES)
def test_the_result_reloads_in_plain_transformers(tiny_model, windows, tmp_path, family, case):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = tiny_model(family, vocab_size=1024, tie_word_embeddings=family == "llama")
    result = CASES[case].apply(model, windows)
    assert result.parameter_count() < model.parameter_count()
    safetensors.write(result, tmp_path / "model", dtype="float32")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32).eval()
    torch.testing.assert_close(logits(plain, windows), logits(result.module, windows), rtol=0, atol=1e-5)
    assert plain.config.vocab_size == result.config.vocab_size
    sample = "def parse(arguments): return 1 🚀"
    assert (
        AutoTokenizer.from_pretrained(tmp_path / "model")(sample)["input_ids"] == result.tokenizer(sample)["input_ids"]
    )
    again = read_folder(tmp_path / "model", torch.float32)
    assert again.lineage == result.lineage


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("case", ["layer", "neuron", "vocabulary"])
def test_the_result_runs_in_llama_cpp(tiny_model, windows, tmp_path, text, family, case):
    result = CASES[case].apply(tiny_model(family, vocab_size=1024), windows)
    path = tmp_path / "model.gguf"
    gguf.write(result, path, float_format="float32")
    with PromptScorer(path, threads=1, context=32) as scorer:
        found = torch.from_numpy(scorer.logits(windows[0].tolist()).copy())
        ours = logits(result.module, windows[:1])[0]
        assert float(divergence.kl(ours, found).max()) < 1e-3
        sample = text[2000:4000] + " 🚀 漢字"
        assert scorer.tokenize(sample) == result.tokenizer(sample)["input_ids"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", CASES)
def test_the_given_model_is_not_changed(tiny_model, windows, case, dtype):
    model = tiny_model(vocab_size=1024, dtype=dtype)
    config, before = model.config.to_dict(), copy.deepcopy(model.module.state_dict())
    tokenizer, generation = model.tokenizer.backend_tokenizer.to_str(), model.module.generation_config.to_dict()
    result = CASES[case].apply(model, windows)
    with torch.no_grad():
        for parameter in result.module.parameters():
            assert parameter.dtype == dtype and parameter.requires_grad
            parameter.add_(1)
    assert all(torch.equal(before[name], value) for name, value in model.module.state_dict().items())
    assert model.config.to_dict() == config and model.module.generation_config.to_dict() == generation
    assert model.tokenizer.backend_tokenizer.to_str() == tokenizer
    assert model.lineage.steps == () and model.lineage.kept_layers is None and model.lineage.kept_tokens is None


def test_the_lineage_says_what_was_done_and_can_be_repeated(tiny_model, windows):
    model = tiny_model(num_hidden_layers=4)
    result = Prune("layer", "block_influence", keep=2).apply(model, windows)
    (step,) = result.lineage.steps
    assert step.operation == "prune" and set(step.parameters) <= set(asdict(CASES["layer"]))
    assert tuple(step.parameters["chosen"]) == result.lineage.kept_layers
    assert Lineage.from_dict(json.loads(json.dumps(result.lineage.to_dict()))) == result.lineage
    repeated = Prune(**step.parameters).apply(model, windows[:1])
    assert torch.equal(logits(repeated.module, windows), logits(result.module, windows))
    assert repeated.lineage == result.lineage


def test_chosen_tokens_need_no_counting(tiny_model, windows):
    model = tiny_model(vocab_size=1024)
    result = CASES["vocabulary"].apply(model, windows, token_use=torch.arange(1024))
    again = replace(CASES["vocabulary"], chosen=result.lineage.kept_tokens).apply(model, windows)
    assert again.lineage == result.lineage and torch.equal(
        again.weight("model.embed_tokens.weight"), result.weight("model.embed_tokens.weight")
    )


def test_repair_brings_outputs_nearer_to_the_source(tiny_model, windows):
    model = tiny_model()
    statistics = collect(model, windows, hessians=True)
    sliced, repaired = (
        Prune("neuron", "activation", keep=96, repair=repair).apply(model, windows, statistics=statistics)
        for repair in (False, True)
    )
    order = statistics.mean_absolute["model.layers.0.mlp_hidden"].topk(96).indices.sort().values
    name = "model.layers.0.mlp.down_proj.weight"
    hessian = statistics.hessian["model.layers.0.mlp_hidden"]
    errors = [output_error(model.weight(name), hessian, order, result.weight(name)) for result in (sliced, repaired)]
    assert errors[1] < 0.9 * errors[0]
    source = logits(model.module, windows).flatten(0, 1)
    before, after = (
        float(divergence.kl(source, logits(result.module, windows).flatten(0, 1)).mean())
        for result in (sliced, repaired)
    )
    assert after < before


def test_repair_goes_in_groups_where_memory_is_short(tiny_model, windows, monkeypatch):
    model = tiny_model()
    whole = CASES["neuron"].apply(model, windows)
    events = []
    monkeypatch.setattr(machine, "memory", lambda: (0, 2 * 2 * 4 * 128**2 + 2))
    grouped = CASES["neuron"].apply(model, windows, progress=events.append)
    assert [event.total for event in events if event.stage == "repairing" and event.done == 0] == [2, 1]
    for name, value in whole.module.state_dict().items():
        torch.testing.assert_close(grouped.weight(name), value, rtol=0, atol=1e-4)


def test_given_statistics_are_used(tiny_model, windows, monkeypatch):
    model = tiny_model()
    statistics = collect(model, windows, hessians=True)
    expected = CASES["neuron"].apply(model, windows)
    monkeypatch.setattr("smidgen.shrink.statistics.collect", None)
    result = CASES["neuron"].apply(model, windows, statistics=statistics)
    assert all(torch.equal(result.weight(name), value) for name, value in expected.module.state_dict().items())


def test_passes_follow_one_another(tiny_model, windows):
    model = tiny_model(vocab_size=1024)
    for step in (CASES["neuron"], CASES["layer"], CASES["vocabulary"]):
        model = step.apply(model, windows)
    config = model.config
    assert (config.intermediate_size, config.num_hidden_layers, config.vocab_size) == (64, 2, 512)
    assert [step.parameters["structure"] for step in model.lineage.steps] == ["neuron", "layer", "vocabulary"]
    model.module(input_ids=windows % 512, labels=windows % 512).loss.backward()
    assert all(parameter.grad is not None for parameter in model.module.parameters())


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"structure": "neuron", "criterion": "block_influence"},
            "take one of activation, gelu, l1, l2, relu, taylor, wanda",
        ),
        ({"structure": "layer", "criterion": "use"}, "take one of block_influence, l1, l2, loss, taylor"),
        ({"keep": 0}, "Keep at least 1"),
        ({"keep": 2, "chosen": (1, 1)}, "2 different layers"),
        ({"keep": 2, "chosen": (1, 0)}, "rising"),
        ({"keep": 2, "chosen": (-1, 0)}, "rising"),
        ({"keep": 1, "chosen": ()}, "1 different"),
        ({"structure": "neuron", "criterion": "l2", "keep": 2, "chosen": (1, 2)}, "Leave 'chosen' out"),
    ],
)
def test_faults_are_found_before_a_model_is_seen(fields, said):
    with pytest.raises(InvalidInput, match=said):
        Prune(**{"structure": "layer", "criterion": "l2", "keep": 3, **fields})


def test_unknown_names_are_refused():
    with pytest.raises(ReferenceNotFound, match="Did you mean 'layer'"):
        Prune("layers", "l2", keep=1)
    with pytest.raises(ReferenceNotFound, match="criterion"):
        Prune("layer", "l3", keep=1)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (Prune("layer", "l2", keep=3), "at least 1 and fewer than 3"),
        (Prune("layer", "l2", keep=1, chosen=(3,)), "names 3"),
        (Prune("neuron", "l2", keep=128), "fewer than 128"),
        (Prune("neuron", "l2", keep=31), "at least 32"),
        (Prune("vocabulary", "l2", keep=300), "at least 512 and fewer than 1,024"),
    ],
)
def test_counts_that_do_not_fit_the_model_are_refused(tiny_model, windows, step, said):
    with pytest.raises(InvalidInput, match=said):
        step.apply(tiny_model(vocab_size=1024), windows)


def test_a_model_that_needs_all_it_has_is_not_told_to_keep_fewer(tiny_model, windows):
    with pytest.raises(InvalidInput, match="None can go"):
        Prune("layer", "l2", keep=1).apply(tiny_model(num_hidden_layers=1), windows)


def test_a_rounded_count_is_reported_and_recorded(tiny_model, windows):
    events = []
    result = Prune("neuron", "l2", keep=100).apply(tiny_model(), windows, progress=events.append)
    assert result.config.intermediate_size == 96 and result.lineage.steps[0].parameters["keep"] == 96
    assert "100 neurons per block rounded to 96" in {event.note for event in events}
    assert module.round_keep("vocabulary", 1000, tiny_model()) == 768
    assert module.round_keep("layer", 2, tiny_model()) == 2


def test_listing_methods_does_not_load_torch():
    source = (
        "import sys; from smidgen.shrink.prune.prune import Prune; from smidgen.shrink.prune import criteria;"
        "Prune('layer', 'loss', keep=2); criteria.names_for('layer'); sys.exit('torch' in sys.modules)"
    )
    import subprocess
    import sys

    assert subprocess.run([sys.executable, "-c", source], check=False).returncode == 0
