from dataclasses import replace

import pytest
import torch

from smidgen.errors import InvalidInput, ReferenceNotFound, Unsupported
from smidgen.shrink.distill import teachers
from smidgen.shrink.distill.distill import Distill
from smidgen.shrink.distill.matching import Vocabulary, match_vocabulary
from smidgen.shrink.distill.teachers import Lesson, cached, live
from smidgen.shrink.distill.teachers.cached import Cached
from smidgen.shrink.distill.teachers.live import Live


@pytest.fixture
def lesson(tiny_model, windows, tmp_path, monkeypatch):
    monkeypatch.setattr("smidgen.shrink.precision._fast_bfloat16", lambda: False)
    watched = ("model.layers.1",)
    return Lesson(tiny_model(), windows, Vocabulary(), tmp_path, torch.float32, tiny_model(seed=1), watched)


def asked(answering, rows):
    return answering.answers(answering.lesson.ids[rows], rows)


def logits_of(lesson, rows):
    with torch.no_grad():
        return lesson.teacher.module(input_ids=lesson.ids[rows]).logits[:, :-1].flatten(0, 1)


def test_the_family_is_what_it_seems():
    assert isinstance(teachers.build("live", {}), Live) and teachers.build("cached", {"k": 3}) == Cached(k=3)
    with pytest.raises(ReferenceNotFound, match="cached"):
        teachers.build("cache", {})
    with pytest.raises(ReferenceNotFound, match="rows_per_shard"):
        teachers.build("cached", {"rows_per_shart": 3})


def test_a_live_teacher_gives_its_logits_and_states_and_stays_as_it_was(lesson):
    rows, which = torch.tensor([4, 1]), torch.tensor([0, 40, 61])
    module = lesson.teacher.module.train()
    before = {name: each.clone() for name, each in module.state_dict().items()}
    with Live().open(lesson) as answering:
        answers = asked(answering, rows)
        found = answers.chunk(which)
    assert torch.allclose(found, logits_of(replace(lesson, teacher=lesson.teacher), rows)[which], atol=1e-4)
    states = module(input_ids=lesson.ids[rows], output_hidden_states=True).hidden_states
    assert torch.allclose(answers.seen["model.layers.1"], states[2], atol=1e-4)
    assert module.training
    assert all(torch.equal(each, before[name]) for name, each in module.state_dict().items())


def test_narrow_matrices_come_back_bit_for_bit(tiny_model, windows, tmp_path, monkeypatch):
    monkeypatch.setattr("smidgen.shrink.precision._fast_bfloat16", lambda: True)
    model = tiny_model()
    before = {name: each.clone() for name, each in model.module.state_dict().items()}
    lesson = Lesson(model, windows, Vocabulary(), tmp_path, torch.bfloat16)
    with Live().open(lesson) as answering:
        assert model.weight("model.layers.0.mlp.up_proj.weight").dtype == torch.bfloat16
        assert model.weight("model.embed_tokens.weight").dtype == torch.float32
        answers = asked(answering, torch.arange(2))
        narrow = answers.chunk(torch.arange(62))
    assert all(torch.equal(each, before[name]) for name, each in model.module.state_dict().items())
    exact = logits_of(lesson, torch.arange(2))
    assert 0 < float((narrow - exact).abs().mean()) < 0.05 * float(exact.std())


def test_a_pruned_vocabulary_asks_and_answers_in_the_students_tokens(lesson, tiny_model):
    kept = (0, 1, 2, *range(5, 400, 5))
    student = tiny_model(vocab_size=len(kept))
    student = replace(student, lineage=student.lineage.without_tokens(kept))
    ids = torch.randint(0, len(kept), (2, 12))
    pruned = replace(lesson, ids=ids, vocabulary=match_vocabulary(student, lesson.teacher))
    with Live().open(pruned) as answering:
        found = asked(answering, torch.arange(2)).chunk(torch.arange(22))
    expected = logits_of(replace(lesson, ids=torch.tensor(kept)[ids]), torch.arange(2))[:, list(kept)]
    assert torch.allclose(found, expected, atol=1e-4)


def test_a_cache_keeps_the_top_tokens_and_the_rest_of_the_mass(lesson):
    rows, which = torch.tensor([5, 0]), torch.tensor([0, 33, 61])
    with Cached(k=20, rows_per_shard=2).open(lesson) as answering:
        top = asked(answering, rows).chunk(which)
    scores = logits_of(lesson, rows)[which].log_softmax(-1)
    expected, indices = scores.topk(20, -1)
    assert torch.equal(top.indices, indices)
    assert torch.allclose(top.log_probabilities, expected, atol=2e-2)
    assert torch.allclose(top.tail, 1 - expected.exp().sum(-1), atol=1e-5)


def test_a_cache_takes_at_most_300_bytes_per_token(lesson):
    with Cached().open(lesson) as answering:
        asked(answering, torch.arange(6))
    files = list(lesson.folder.glob("*.safetensors"))
    assert len(files) == 1
    assert files[0].stat().st_size < 300 * 6 * 31
    with pytest.raises(InvalidInput, match="1 to 49"):
        Cached(k=50)


def test_shards_are_read_again_without_the_teacher_and_only_for_the_same_question(lesson, monkeypatch):
    def values(lesson):
        with Cached(k=20, rows_per_shard=2).open(lesson) as answering:
            return asked(answering, torch.arange(4)).values

    first = values(lesson)
    assert len(list(lesson.folder.iterdir())) == 2
    with monkeypatch.context() as patch:
        patch.setattr(live.Live, "open", lambda *_: pytest.fail("the teacher was asked"))
        assert all(torch.equal(value, first[name]) for name, value in values(lesson).items())
    changed = replace(lesson, ids=lesson.ids.flip(1))
    assert not torch.equal(values(changed)["indices"], first["indices"])
    lesson.teacher.weight("model.norm.weight").data *= 1.5
    assert not torch.equal(values(lesson)["log_probabilities"], first["log_probabilities"])
    assert len(list(lesson.folder.iterdir())) == 6


@pytest.mark.parametrize("damage", ["cut", "altered", "empty"])
def test_a_damaged_shard_is_computed_again_and_said(lesson, damage):
    events = []
    lesson = replace(lesson, progress=events.append)

    def values():
        with Cached(k=20).open(lesson) as answering:
            return asked(answering, torch.arange(6)).values

    first = values()
    (path,) = lesson.folder.iterdir()
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes({"cut": content[:-50], "altered": content, "empty": b""}[damage])
    events.clear()
    again = values()
    assert any("damaged" in event.note and "again" in event.note for event in events)
    assert all(torch.equal(value, first[name]) for name, value in again.items())
    assert cached._read(path).keys() == first.keys()


def test_a_cache_has_no_hidden_states(tiny_model, windows):
    with pytest.raises(Unsupported, match="live"):
        Distill(steps=1, losses={"hidden": 1.0}, teacher="cached").apply(tiny_model(), tiny_model(), windows, windows)
