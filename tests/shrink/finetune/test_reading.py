import json

import pytest
import torch

from smidgen.errors import DamagedFile, InvalidInput, ReferenceNotFound, Unsupported
from smidgen.export import adapter as adapter_files
from smidgen.models.checkpoint import gguf as container
from smidgen.shrink.finetune import reading
from smidgen.shrink.finetune.finetune import Finetune
from smidgen.shrink.prune.prune import Prune

FAST = {"learning_rate": 2e-2, "steps": 6, "batch_size": 4, "length": 64, "rank": 4, "patience": 0}
IDS = torch.tensor([[5, 9, 77, 200, 31, 8, 120, 66, 300, 12]])


def logits(model):
    with torch.no_grad():
        return model.module(input_ids=IDS, use_cache=False).logits[0]


def zeros(model):
    return {
        part.weight: model.weight(part.weight) == 0
        for block in model.anatomy.blocks
        for part in block.projections.values()
    }


@pytest.fixture(scope="module")
def kept(chatty, lessons, tmp_path_factory):
    """A model, what LoRA made of it, and the folder of its adapter."""
    model = chatty()
    result = Finetune(method="lora", **FAST).run(model, *lessons)
    folder = tmp_path_factory.mktemp("kept") / "apart"
    adapter_files.write(result.adapter, result.model, folder)
    return model, result, folder


@pytest.mark.parametrize("file", ["", "adapter.gguf"])
def test_an_adapter_kept_apart_is_merged_later(file, kept):
    model, result, folder = kept
    before = logits(model)
    merged = reading.merge(reading.find(folder / file), model)
    assert torch.allclose(logits(merged), logits(result.model), atol=1e-5)
    assert torch.equal(logits(model), before) and not torch.allclose(logits(merged), before, atol=1e-2)
    step = merged.lineage.steps[-1]
    assert step.operation == "merge" and step.parameters["rank"] == 4 and step.note == ""


@pytest.mark.parametrize("changes", [{"allocation": (4, 0, 2)}, {}])
def test_a_gguf_of_a_model_whose_blocks_differ_is_read_back(changes, chatty, lessons, windows, tmp_path):
    model = chatty()
    if changes:
        model = Prune("head", "l2", **changes).apply(model, windows)
    result = Finetune(method="lora", **FAST).run(model, *lessons)
    adapter_files.write_gguf(result.adapter, model, tmp_path / "adapter.gguf")
    merged = reading.merge(tmp_path / "adapter.gguf", model)
    assert torch.allclose(logits(merged), logits(result.model), atol=1e-5)


@pytest.mark.parametrize("structure", ["weight", "synapse"])
def test_pruned_weights_stay_zero_while_an_adapter_is_trained_and_merged(structure, chatty, lessons, windows):
    cut = Prune(structure, "l1", **({"sparsity": 0.5} if structure == "weight" else {})).apply(chatty(), windows)
    result = Finetune(method="lora", **FAST).run(cut, *lessons)
    before, after = zeros(cut), zeros(result.model)
    assert all(zero.float().mean() > 0.45 for zero in before.values())
    assert all(torch.equal(zero, after[name]) for name, zero in before.items())
    step = result.model.lineage.steps[-1].parameters
    assert step["held_out_best"] < step["held_out_before"] - 0.05, "it learns all the same"
    # What was trained is what was merged: the merged model has the loss that training saw.
    again = Finetune(method="lora", **FAST | {"steps": 1, "learning_rate": 1e-9}).run(result.model, *lessons)
    assert again.curves["held_out"][0][1] == pytest.approx(step["held_out_best"], rel=1e-4)


def test_an_adapter_of_a_whole_model_leaves_the_zeros_of_a_pruned_one(kept, windows):
    model, _, folder = kept
    cut = Prune("weight", "l1", sparsity=0.5).apply(model, windows)
    merged = reading.merge(folder, cut)
    assert all(torch.equal(zero, zeros(merged)[name]) for name, zero in zeros(cut).items())
    assert not torch.equal(logits(merged), logits(cut))
    note = merged.lineage.steps[-1].note
    assert "in another state" in note and "50% of weights that were pruned" in note


def test_zeros_that_nobody_pruned_are_values_like_others(kept):
    model, _, folder = kept
    spotted = model.clone()
    name = model.anatomy.blocks[0].projections["up"].weight
    spotted.weight(name).data[:, ::2] = 0
    assert not (reading.merge(folder, spotted).weight(name)[:, ::2] == 0).any()


def test_what_would_fill_pruned_weights_is_refused(chatty, lessons, windows, kept, tmp_path):
    cut = Prune("weight", "l1", sparsity=0.5).apply(chatty(), windows)
    with pytest.raises(Unsupported, match="A DoRA fills"):
        Finetune(method="dora", **FAST).run(cut, *lessons)
    with pytest.raises(Unsupported, match="kept apart fills"):
        adapter_files.write(kept[1].adapter, cut, tmp_path / "apart")
    assert not (tmp_path / "apart").exists()


def test_another_base_is_noted_or_refused(kept, chatty):
    _, _, folder = kept
    other = chatty(seed=3)
    facts = other.lineage.origin.__dict__ | {"name": "another", "sha256": "1" * 64}
    other = other.__class__(
        other.module, other.tokenizer, other.family, type(other.lineage)(type(other.lineage.origin)(**facts))
    )
    assert "tiny-llama, and this is another" in reading.merge(folder, other).lineage.steps[-1].note
    for file in ("", "adapter.gguf"):
        with pytest.raises(InvalidInput, match=r"other sizes|no place|has not"):
            reading.merge(folder / file, chatty(hidden_size=32))
        with pytest.raises(InvalidInput, match=r"other sizes|no place|has not"):
            reading.merge(folder / file, chatty(num_hidden_layers=2))


def test_what_is_no_adapter_is_refused(kept, tmp_path):
    model, _, folder = kept
    for place in (tmp_path / "nothing", tmp_path, tmp_path / "nothing.gguf"):
        with pytest.raises(ReferenceNotFound, match="no adapter at"):
            reading.find(place)
    tensors = list(container.read(folder / "adapter.gguf").tensors.values())
    container.write(tmp_path / "model.gguf", {"general.architecture": "llama"}, tensors)
    with pytest.raises(InvalidInput, match="holds no LoRA"):
        reading.read(tmp_path / "model.gguf", model)
    container.write(tmp_path / "odd.gguf", {"general.architecture": "llama", "adapter.type": "lora"}, tensors)
    with pytest.raises(DamagedFile, match="alpha None"):
        reading.read(tmp_path / "odd.gguf", model)
    lonely = {"general.architecture": "llama", "adapter.type": "lora", "adapter.lora.alpha": 8.0}
    container.write(tmp_path / "half.gguf", lonely, [each for each in tensors if each.name.endswith("a")])
    with pytest.raises(InvalidInput, match="no place"):
        reading.read(tmp_path / "half.gguf", model)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "adapter_config.json").write_text(json.dumps({"r": "x"}))
    with pytest.raises(DamagedFile):
        reading.read(tmp_path / "bad", model)
