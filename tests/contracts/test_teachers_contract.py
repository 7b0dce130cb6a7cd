"""What every way of asking a teacher promises."""

import inspect
import runpy
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest
import torch

from smidgen.shrink.distill import teachers
from smidgen.shrink.distill.losses import TopTokens
from smidgen.shrink.distill.matching import Vocabulary, match_vocabulary
from smidgen.shrink.distill.teachers import Lesson

build_model = runpy.run_path(str(Path(__file__).parents[1] / "shrink" / "conftest.py"))["build_model"]
KINDS = {name: type(teachers.build(name, {})) for name in teachers.names()}


@pytest.fixture
def lesson(tmp_path, monkeypatch):
    monkeypatch.setattr("smidgen.shrink.precision._fast_bfloat16", lambda: False)
    ids = torch.randint(3, 400, (5, 24), generator=torch.Generator().manual_seed(1))
    return Lesson(build_model(), ids, Vocabulary(), tmp_path / "new", torch.float32, build_model(seed=1))


def expected(lesson, rows):
    """Log-probabilities ``[rows * (length - 1), shared]`` by plain transformers."""
    with torch.no_grad():
        logits = lesson.teacher.module(input_ids=lesson.vocabulary.asked(lesson.ids[rows])).logits
    wanted = lesson.vocabulary.rows()
    shared = logits if wanted is None else logits[..., wanted]
    return shared[:, :-1].flatten(0, 1).log_softmax(-1)


def agrees(found, scores):
    if isinstance(found, TopTokens):
        top, indices = scores.topk(found.indices.shape[1], -1)
        return torch.equal(found.indices, indices) and torch.allclose(found.log_probabilities, top, atol=2e-2)
    return torch.allclose(found.log_softmax(-1), scores, atol=1e-4)


def test_the_sweep_found_every_teacher():
    folder = Path(teachers.__file__).parent
    files = {path.stem for path in folder.glob("*.py") if not path.name.startswith("_")}
    assert set(KINDS) == files == {"cached", "live", "on_policy"}


@pytest.mark.parametrize("name", KINDS)
def test_a_teacher_is_a_documented_frozen_dataclass(name):
    kind = KINDS[name]
    assert is_dataclass(kind) and kind.__dataclass_params__.frozen
    text = inspect.getdoc(kind)
    assert ">>>" in text and "Source" in text
    assert all(f"{field.name}: " in text for field in fields(kind))
    assert "outputs" in kind.answers and kind.answers <= {"outputs", "parts", "gradient"}


@pytest.mark.parametrize("name", KINDS)
def test_it_says_what_the_model_says_of_the_tokens_that_are_asked_for(name, lesson):
    rows, which = torch.tensor([3, 0]), torch.tensor([0, 22, 23, 45])
    with teachers.build(name, {}).open(lesson) as answering:
        answers = answering.answers(lesson.ids[rows], rows)
        found = answers.chunk(which)
    assert agrees(found, expected(lesson, rows)[which])


@pytest.mark.parametrize("name", KINDS)
def test_it_answers_in_the_students_tokens(name, lesson):
    kept = (0, 1, 2, *range(399, 2, -5))
    student = build_model(vocab_size=len(kept))
    student = replace(student, lineage=student.lineage.without_tokens(kept))
    ids = torch.randint(0, len(kept), (3, 12))
    vocabulary = match_vocabulary(student, lesson.teacher)
    lesson, rows = replace(lesson, ids=ids, vocabulary=vocabulary, student=student), torch.arange(3)
    with teachers.build(name, {}).open(lesson) as answering:
        found = answering.answers(ids, rows).chunk(torch.arange(33))
    assert agrees(found, expected(lesson, rows))


@pytest.mark.parametrize("name", KINDS)
def test_it_leaves_teacher_and_student_as_they_were(name, lesson):
    models = [lesson.teacher, lesson.student]
    lesson.teacher.module.train()
    before = [{key: each.clone() for key, each in model.module.state_dict().items()} for model in models]
    lesson = replace(lesson, maps=True)
    with teachers.build(name, {}).open(lesson) as answering:
        answering.text(lesson.ids, None)
        answering.answers(lesson.ids, torch.arange(5)).chunk(torch.arange(3))
    for model, state in zip(models, before, strict=True):
        assert all(torch.equal(each, state[key]) for key, each in model.module.state_dict().items())
        assert model.config._attn_implementation == "sdpa"
        assert all(each.grad is None for each in model.module.parameters())
    assert lesson.teacher.module.training and not lesson.student.module.training


@pytest.mark.parametrize("name", KINDS)
def test_the_text_keeps_its_shape_and_stays_the_datas_own_where_it_is_said_so(name, lesson):
    method = teachers.build(name, {})
    with method.open(lesson) as answering:
        ids, mask = answering.text(lesson.ids, None)
    assert ids.shape == lesson.ids.shape and (mask is None or mask.shape == ids.shape)
    assert torch.equal(ids, lesson.ids) == method.follows_text


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if "parts" in kind.answers])
def test_parts_and_slopes_are_those_of_the_model(name, lesson):
    lesson = replace(lesson, watched=("model.layers.1", "model.layers.2.self_attn"), maps=True, slopes=True)
    rows = torch.tensor([1, 4])
    with teachers.build(name, {}).open(lesson) as answering, torch.no_grad():
        answers = answering.answers(lesson.ids[rows], rows)
        embedded, slopes = answers.slopes(torch.arange(46))
    module = lesson.teacher.module
    module.set_attn_implementation("eager")
    inputs = module.get_input_embeddings()(lesson.ids[rows])
    whole = module(inputs_embeds=inputs, output_hidden_states=True, output_attentions=True)
    assert torch.allclose(answers.seen["model.layers.1"], whole.hidden_states[2], atol=1e-4)
    assert torch.allclose(answers.seen["model.layers.2.self_attn"][1], whole.attentions[2], atol=1e-5)
    targets = lesson.ids[rows][:, 1:].flatten()
    loss = torch.nn.functional.cross_entropy(whole.logits[:, :-1].flatten(0, 1), targets)
    assert torch.equal(embedded, inputs)
    assert torch.allclose(slopes, torch.autograd.grad(loss, inputs)[0], atol=1e-5)
