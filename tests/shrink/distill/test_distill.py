import json
from dataclasses import asdict, replace

import pytest
import torch

from smidgen import divergence
from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.models.model import PackedTensor
from smidgen.shrink.distill.distill import Distill

QUICK = Distill(steps=40, learning_rate=2e-3, batch_size=4, patience=0)


def distance(student, teacher, ids):
    with torch.no_grad():
        p, q = (model.module(input_ids=ids).logits.flatten(0, 1) for model in (teacher, student))
    return float(divergence.kl(p, q).mean())


@pytest.fixture
def pair(tiny_model):
    """A teacher, and a student that is the teacher with noise on its weights."""
    teacher, student = tiny_model(initializer_range=0.08), tiny_model(initializer_range=0.08)
    generator = torch.Generator().manual_seed(7)
    for parameter in student.module.parameters():
        parameter.data += 0.03 * torch.randn(parameter.shape, generator=generator)
    return student, teacher


@pytest.fixture
def texts():
    generator = torch.Generator().manual_seed(3)
    return torch.randint(3, 400, (24, 32), generator=generator), torch.randint(3, 400, (4, 32), generator=generator)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"losses": {"soft_output": {"weight": 1.0, "direction": "reverse"}, "hidden": 0.2}},
        {"temperature": 2.0, "temperature_end": 1.0},
        {"entropy": 4.0},
        {"teacher": "cached"},
        {"losses": {"embedding": 1.0, "soft_attention": 0.5}},
        {"losses": {"soft_output": 1.0, "gradient": {"weight": 1.0, "weight_end": 0.0}}},
        {"losses": {"soft_output": {"direction": "jensen_shannon"}}, "teacher": "on_policy"},
    ],
)
def test_the_student_comes_closer_on_text_it_never_saw(pair, texts, options):
    student, teacher = pair
    before, on_policy = distance(student, teacher, texts[1]), options.get("teacher") == "on_policy"
    result = replace(QUICK, **options).run(student, teacher, *texts)
    limit = 0.9 if {"embedding", "gradient"} & set(options.get("losses", {})) else 0.8
    assert distance(result.model, teacher, texts[1]) < limit * before
    assert distance(student, teacher, texts[1]) == pytest.approx(before)
    assert result.curves["held_out"][-1][1] < result.curves["held_out"][0][1]
    json.dumps(result.curves)
    least, most = (3000, 40 * 4 * 24) if on_policy else (40 * 4 * 31, 40 * 4 * 31)
    assert least <= result.tokens <= most and result.tokens_per_second > 0
    assert result.model.config._attn_implementation == student.config._attn_implementation == "sdpa"


def test_neither_model_is_changed_and_the_step_is_recorded(pair, texts):
    student, teacher = pair
    states = [{name: each.clone() for name, each in model.module.state_dict().items()} for model in pair]
    taught = replace(QUICK, steps=2).apply(student, teacher, *texts)
    for model, state in zip(pair, states, strict=True):
        assert all(torch.equal(each, state[name]) for name, each in model.module.state_dict().items())
    step = taught.lineage.steps[-1]
    assert step.operation == "distill" and step.parameters["steps"] == 2
    assert step.parameters["taught_by"] == teacher.lineage.origin.name and student.lineage.steps == ()
    json.dumps(taught.lineage.to_dict())


def test_norms_alone_help_and_packed_bytes_stay_valid_where_nothing_moved(pair, texts):
    student, teacher = pair
    names = ("model.layers.0.mlp.up_proj.weight", "model.norm.weight")
    packed = {name: PackedTensor("q8_0", torch.zeros(1), (1, 1)) for name in names}
    student = replace(student, packed=packed)
    tuned = replace(QUICK, trainable="norms", learning_rate=1e-2).apply(student, teacher, *texts)
    assert set(tuned.packed) == {names[0]}
    assert torch.equal(tuned.weight(names[0]), student.weight(names[0]))
    assert distance(tuned, teacher, texts[1]) < 0.9 * distance(student, teacher, texts[1])
    assert replace(QUICK, steps=1).apply(student, teacher, *texts).packed == {}


def test_hard_output_asks_no_teacher_and_learns_the_text(tiny_model):
    ids = torch.arange(3, 35).repeat(4, 1)
    student = tiny_model()
    result = replace(QUICK, learning_rate=1e-2, losses={"hard_output": 1.0}).run(
        student, tiny_model(seed=5), ids, ids[:0]
    )
    assert result.curves["training"][0][1] > 0 and result.curves["held_out"] == []
    with torch.no_grad():
        guesses = result.model.module(input_ids=ids[:1]).logits.argmax(-1)[0, :-1]
    assert (guesses == ids[0, 1:]).float().mean() > 0.9


def test_a_student_of_other_width_depth_and_vocabulary_learns_hidden_states(tiny_model):
    teacher, kept = tiny_model(), tuple(range(0, 400, 2))
    student = tiny_model(hidden_size=32, num_hidden_layers=2, vocab_size=200)
    lineage = student.lineage.without_tokens(kept).without_layers((0, 2))
    student = replace(student, lineage=lineage)
    ids = torch.randint(0, 200, (8, 24), generator=torch.Generator().manual_seed(0))
    distill = replace(QUICK, steps=30, learning_rate=1e-2, losses={"hidden": 1.0, "soft_output": 0.1})
    result = distill.run(student, teacher, ids, ids[:2])
    curve = result.curves["held_out"]
    assert curve[-1][1] < 0.8 * curve[0][1]
    assert not any("projection" in name for name, _ in result.model.module.named_parameters())


def test_stopped_and_started_again_it_ends_in_the_same_bits(pair, texts, tmp_path):
    class Stop(Exception):
        pass

    def progress(event):
        if event.done == 4 and event.stage == "distilling":
            raise Stop

    distill = replace(QUICK, steps=8, trainable="norms", teacher="cached")
    whole = distill.apply(*pair, *texts)
    with pytest.raises(Stop):
        distill.apply(*pair, *texts, checkpoints=tmp_path, progress=progress)
    seen = []
    again = distill.apply(*pair, *texts, checkpoints=tmp_path, progress=lambda event: seen.append(event))
    assert [event.done for event in seen if event.stage == "distilling"] == [5, 6, 7, 8]
    state = whole.module.state_dict()
    assert all(torch.equal(each, state[name]) for name, each in again.module.state_dict().items())
    other = replace(distill, seed=1).apply(*pair, *texts, checkpoints=tmp_path)
    assert not torch.equal(other.weight("model.norm.weight"), again.weight("model.norm.weight"))


def test_masked_tokens_teach_nothing(pair, texts):
    student, teacher = pair
    distill = replace(QUICK, steps=3, seed=2)
    mask = torch.zeros_like(texts[0], dtype=torch.bool)
    mask[:, 1:10] = True
    result = distill.run(student, teacher, texts[0], texts[0][:0], mask=mask)
    assert result.tokens == 3 * 4 * 9


def test_throughput_is_measured_without_a_trace(pair, texts):
    student, teacher = pair
    states = [{name: each.clone() for name, each in model.module.state_dict().items()} for model in pair]
    assert QUICK.measure_throughput(student, teacher, texts[0]) > 0
    for model, state in zip(pair, states, strict=True):
        assert all(torch.equal(each, state[name]) for name, each in model.module.state_dict().items())


def test_fields_are_plain_data_with_defaults():
    assert json.loads(json.dumps(asdict(Distill(steps=5))))["losses"] == {"soft_output": 1.0}


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"losses": {"soft": 1.0}}, ReferenceNotFound, "loss 'soft'"),
        ({"losses": {"hidden": {"weight": 1.0, "mesure": "mse"}}}, ReferenceNotFound, "measure"),
        ({"losses": {"soft_output": {"direction": "back"}}}, ReferenceNotFound, "reverse"),
        ({"losses": {"soft_output": 0.0}}, InvalidInput, "above 0"),
        ({"losses": {}}, InvalidInput, "at least one"),
        ({"teacher": "lively"}, ReferenceNotFound, "live"),
        ({"schedule": "cosin"}, ReferenceNotFound, "cosine"),
        ({"trainable": "nrms"}, InvalidInput, "norms"),
        ({"steps": 0}, InvalidInput, "steps"),
    ],
)
def test_wrong_fields_are_said(pair, texts, options, error, words):
    with pytest.raises(error, match=words):
        replace(QUICK, **options).apply(*pair, *texts)


def test_wrong_tokens_are_said(pair, texts):
    with pytest.raises(InvalidInput, match="400"):
        QUICK.apply(*pair, torch.full((2, 8), 400), texts[1])
    with pytest.raises(InvalidInput, match="training tokens"):
        QUICK.apply(*pair, texts[0][:0], texts[1])
    with pytest.raises(InvalidInput, match="held-out"):
        QUICK.apply(*pair, texts[0], texts[1][0])
