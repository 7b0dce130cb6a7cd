import json

import pytest
import torch

from smidgen import formats
from smidgen.data.rows import Corpus, Row
from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.export import gguf
from smidgen.models.load import read_gguf
from smidgen.shrink.finetune._rounding import Rounding
from smidgen.shrink.finetune.finetune import Finetune

FAST = {"learning_rate": 3e-3, "steps": 12, "batch_size": 2, "length": 64, "patience": 0}


class Killed(Exception):
    pass


def killing(after, stage="fine-tuning"):
    """A progress that ends the work after some events of a stage."""
    seen = []

    def progress(event):
        if event.stage.startswith(stage):
            seen.append(event)
            if len(seen) == after:
                raise Killed

    return progress


def weights(model):
    return {name: value.detach().clone() for name, value in model.module.named_parameters()}


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def changed(one, two):
    return {name for name in one if not torch.equal(one[name], two[name])}


@pytest.mark.parametrize("method", ["full", "lora", "dora"])
def test_the_answers_are_learned_and_the_model_given_stays(method, chatty, lessons):
    model = chatty()
    before, given = weights(model), [flag.requires_grad for flag in model.module.parameters()]
    rate = 3e-3 if method == "full" else 1e-2
    result = Finetune(method=method, rank=8, **{**FAST, "learning_rate": rate, "steps": 24}).run(model, *lessons)
    held_out = dict(map(tuple, result.curves["held_out"]))
    assert held_out[result.curves["best_step"]] < 0.75 * held_out[0]
    assert same(before, weights(model)) and given == [flag.requires_grad for flag in model.module.parameters()]
    step = result.model.lineage.steps[-1]
    assert step.operation == "finetune" and step.parameters["held_out_best"] < step.parameters["held_out_before"]
    assert weights(result.model).keys() == before.keys() and type(result.model.module) is type(model.module)
    assert (result.adapter is None) == (method == "full")
    json.dumps(result.curves), json.dumps(step.parameters)


def test_all_weights_or_only_those_named_are_trained(chatty, lessons):
    model = chatty()
    everything = set(weights(model))
    assert changed(weights(model), weights(Finetune(**FAST).apply(model, *lessons))) == everything
    norms = changed(weights(model), weights(Finetune(trainable="norms", **FAST).apply(model, *lessons)))
    assert norms == {name for name in everything if "norm" in name}
    frozen = Finetune(freeze=("*embed*", "model.layers.0.*"), **FAST).apply(model, *lessons)
    kept = everything - changed(weights(model), weights(frozen))
    assert kept == {name for name in everything if "embed" in name or ".layers.0." in name}


def test_an_adapter_keeps_to_its_targets_and_what_is_frozen(chatty, lessons):
    model = chatty()
    result = Finetune(method="lora", rank=4, targets="attention", freeze=("*.0.*",), **FAST).run(model, *lessons)
    expected = {f"{each.path}" for block in model.anatomy.blocks[1:] for each in block.projections.values()}
    expected = {path for path in expected if "self_attn" in path}
    assert {*result.adapter.targets} == expected
    assert changed(weights(model), weights(result.model)) == {f"{path}.weight" for path in expected}


@pytest.mark.parametrize("method", ["full", "lora"])
def test_only_the_upper_blocks_are_trained(method, chatty, lessons):
    model = chatty(num_hidden_layers=4)
    tuned = Finetune(method=method, rank=4, upper=0.5, **FAST).apply(model, *lessons)
    found = changed(weights(model), weights(tuned))
    upper = {name for name in weights(model) if ".layers.2." in name or ".layers.3." in name}
    final = {f"{model.anatomy.final_norm}.weight"}
    assert found == (upper | final if method == "full" else {name for name in upper if "proj" in name})
    lowest = Finetune(upper=0.01, **FAST).apply(model, *lessons)
    assert {name for name in upper if ".3." in name} <= changed(weights(model), weights(lowest))
    with pytest.raises(InvalidInput, match="upper blocks"):
        Finetune(upper=0.5, trainable="*.layers.0.*", **FAST).apply(model, *lessons)
    with pytest.raises(InvalidInput, match="above 0 and at most 1"):
        Finetune(upper=0.0)


def test_only_what_was_trained_loses_its_bytes(chatty, lessons, quantized):
    stored = quantized(chatty())
    embedding = f"{stored.anatomy.embedding}.weight"
    tuned = Finetune(freeze=("*embed*",), **FAST).apply(stored, *lessons)
    assert set(tuned.packed) == {embedding} and len(stored.packed) == 22
    assert embedding in Finetune(method="lora", rank=2, **FAST).apply(stored, *lessons).packed


@pytest.mark.parametrize("method", ["full", "lora", "dora", "qlora"])
def test_a_killed_training_ends_as_an_undisturbed_one(method, chatty, lessons, quantized, tmp_path):
    model = quantized(chatty())
    work = Finetune(method=method, rank=4, dropout=0.1, **{**FAST, "steps": 8})
    expected = work.run(model, *lessons)
    for after in (3, 2):
        with pytest.raises(Killed):
            work.run(model, *lessons, checkpoints=tmp_path, progress=killing(after))
    resumed = work.run(model, *lessons, checkpoints=tmp_path)
    assert resumed.tokens < expected.tokens
    assert same(weights(expected.model), weights(resumed.model)) and expected.curves == resumed.curves


def test_another_training_does_not_resume_from_it(chatty, lessons, tmp_path):
    model, notes = chatty(), []
    with pytest.raises(Killed):
        Finetune(**FAST).run(model, *lessons, checkpoints=tmp_path, progress=killing(3))
    Finetune(**FAST | {"length": 80}).run(model, *lessons, checkpoints=tmp_path, progress=notes.append)
    assert any("another training" in event.note for event in notes)


def test_rate_and_epochs_are_found_and_not_found_again(chatty, lessons, tmp_path):
    model = chatty()
    work = Finetune(method="lora", rank=4, batch_size=4, length=64)
    with pytest.raises(Killed):
        work.run(model, *lessons, checkpoints=tmp_path, progress=killing(1))
    noted = json.loads((tmp_path / "sweep.json").read_text())["trials"]
    assert len(noted) >= 3
    stages = []
    result = work.run(model, *lessons, checkpoints=tmp_path, progress=lambda event: stages.append(event.stage))
    assert not any("trying" in stage for stage in stages)
    sweep = result.curves["sweep"]
    best = min(sweep, key=lambda trial: min(trial["held_out"][1:]))
    assert result.curves["learning_rate"] == best["learning_rate"] == sweep[0]["learning_rate"]
    assert result.curves["epochs"] == best["held_out"].index(min(best["held_out"][1:]))
    assert len(sweep) == len(noted) and result.model.lineage.steps[-1].parameters["learning_rate"] > 0


def test_what_is_given_is_not_searched(chatty, lessons):
    model = chatty()
    only_epochs = Finetune(learning_rate=3e-3, batch_size=4, length=64).run(model, *lessons)
    assert [trial["learning_rate"] for trial in only_epochs.curves["sweep"]] == [3e-3]
    given = Finetune(learning_rate=3e-3, epochs=1.5, batch_size=4, length=64).run(model, *lessons)
    assert given.curves["sweep"] == [] and given.curves["epochs"] == 1.5


def test_overfitting_is_seen_and_stopped_and_the_best_weights_are_kept(chatty, lessons):
    few = Corpus("few", (Row("1 win cash", label="ham"), Row("2 see you", label="spam")))
    work = Finetune(learning_rate=1e-2, steps=60, batch_size=1, length=64, evaluate_every=3, patience=2)
    result = work.run(chatty(), few, lessons[1])
    curves = result.curves
    held_out = dict(map(tuple, curves["held_out"]))
    assert curves["stopped_early"] and result.steps < 60
    assert held_out[curves["best_step"]] == min(held_out.values()) < held_out[result.steps]
    again = work.run(result.model, few, lessons[1]).curves["held_out"][0]
    assert again[1] == pytest.approx(min(held_out.values()), rel=1e-5)
    assert len(curves["training"]) >= 2 and curves["training"][-1][1] < curves["held_out"][-1][1]
    assert result.model.lineage.steps[-1].parameters["stopped_early"] is True


def test_rounded_training_is_stored_as_it_was_trained(chatty, lessons, tmp_path):
    model = chatty()
    result = Finetune(rounding="q4_0", **FAST).run(model, *lessons)
    tuned = result.model
    assert set(tuned.packed) == set(model.anatomy.matrices())
    for name, packed in tuned.packed.items():
        assert torch.equal(formats.find("q4_0").unpack(packed.data), tuned.weight(name))
    held_out = dict(map(tuple, result.curves["held_out"]))
    again = Finetune(rounding="stored", **FAST).run(tuned, *lessons).curves["held_out"][0][1]
    assert again == pytest.approx(held_out[result.curves["best_step"]], rel=1e-3)
    gguf.write(tuned, tmp_path / "tuned.gguf")
    read = read_gguf(tmp_path / "tuned.gguf", torch.float32)
    assert all(torch.equal(read.weight(name), tuned.weight(name)) for name in tuned.packed)


def test_rounded_training_finds_better_values_than_rounding(chatty):
    model, name = chatty(), "model.layers.0.mlp.up_proj.weight"
    weight, rounding = model.weight(name), Rounding(model, {name: "q4_0"})
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(48, 4, generator=generator) @ torch.randn(4, 64, generator=generator)
    wanted = inputs @ weight.detach().T

    def error():
        return (inputs @ rounding()[name].T - wanted).square().mean()

    optimizer, errors = torch.optim.Adam([weight], 3e-4), []
    for _ in range(60):
        optimizer.zero_grad()
        loss = error()
        loss.backward()
        optimizer.step()
        errors.append(float(loss.detach()))
    assert 0 < min(errors) < 0.7 * errors[0]


def test_the_gradient_passes_rounding_straight_through(chatty):
    model = chatty()
    name = "model.layers.0.mlp.up_proj.weight"
    rounded = Rounding(model, {name: "q4_0"})()[name]
    assert 0 < float((rounded - model.weight(name)).detach().abs().max()) < 0.1
    slopes = torch.randn_like(rounded)
    rounded.backward(slopes)
    assert torch.equal(model.weight(name).grad, slopes)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"method": "lorra"}, "Did you mean 'lora'"),
        ({"objective": "supervized"}, "supervised"),
        ({"options": {"instruct": "x"}}, "'instruction'"),
        ({"steps": 3, "epochs": 1.0}, "not both"),
        ({"epochs": 0.0}, "above 0"),
        ({"learning_rate": -1.0}, "above 0"),
        ({"method": "lora", "rounding": "q4_0"}, "--method full"),
        ({"rank": 0}, "rank of at least 1"),
        ({"schedule": "stairs"}, "schedule"),
    ],
)
def test_what_cannot_be_is_said_at_once(options, part):
    with pytest.raises((InvalidInput, ReferenceNotFound)) as caught:
        Finetune(**options)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"rounding": "q4_k"}, "do not divide"),
        ({"rounding": "q4_o"}, "q4_0"),
        ({"rounding": "stored"}, "stored in a number format yet"),
        ({"method": "qlora"}, "quantized base"),
        ({"method": "lora", "targets": "atention"}, "'attention'"),
        ({"trainable": "nothing.*"}, "No parameter"),
        ({"freeze": ("no.such",)}, "freezes nothing"),
        ({"freeze": ("*",)}, "nothing is left"),
    ],
)
def test_what_the_model_does_not_have_is_said(options, part, chatty, lessons):
    with pytest.raises((InvalidInput, ReferenceNotFound)) as caught:
        Finetune(**FAST, **options).run(chatty(), *lessons)
    assert part in str(caught.value)
