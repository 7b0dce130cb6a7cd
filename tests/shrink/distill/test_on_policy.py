from dataclasses import replace

import pytest
import torch

from smidgen.errors import InvalidInput, ReferenceNotFound, Unsupported
from smidgen.shrink.distill.distill import Distill
from smidgen.shrink.distill.matching import Vocabulary
from smidgen.shrink.distill.teachers import Lesson
from smidgen.shrink.distill.teachers.on_policy import OnPolicy


@pytest.fixture
def lesson(tiny_model, windows, tmp_path):
    student = tiny_model(seed=1)
    student.module.generation_config.repetition_penalty = 3.0
    return Lesson(tiny_model(), windows, Vocabulary(), tmp_path, torch.float32, student)


def text(lesson, mask=None, **options):
    torch.manual_seed(0)
    with OnPolicy(**options).open(lesson) as answering:
        return answering.text(lesson.ids, mask)


def test_nearly_without_temperature_the_student_writes_its_likeliest_words(lesson):
    ids, counted = text(lesson, prompt=0.5, temperature=0.05)
    assert torch.equal(ids[:, :16], lesson.ids[:, :16]) and not counted[:, :16].any()
    with torch.no_grad():
        guesses = lesson.student.module(input_ids=ids).logits.argmax(-1)[:, 15:-1]
    written = counted[:, 16:]
    assert written[:, 0].all() and (guesses == ids[:, 16:])[written].float().mean() > 0.9
    assert lesson.student.module.generation_config.repetition_penalty == 3.0


def test_every_token_can_be_written(lesson):
    for parameter in lesson.student.module.parameters():
        parameter.data.zero_()
    ids = text(replace(lesson, ids=lesson.ids.repeat(50, 1)[:, :4]), prompt=0.75)[0][:, 3]
    assert len(ids.unique()) > 150


def test_words_after_the_end_of_text_do_not_count(lesson):
    end = lesson.student.tokenizer.eos_token_id
    for parameter in lesson.student.module.parameters():
        parameter.data.zero_()
    rows = replace(lesson, ids=lesson.ids.repeat(100, 1)[:, :20])
    ids, counted = text(rows, prompt=0.05)
    ended = [row for row in range(600) if end in ids[row, 1:].tolist()]
    assert ended
    for row in ended:
        place = ids[row, 1:].tolist().index(end) + 1
        assert counted[row].tolist() == [False, *[True] * place, *[False] * (19 - place)]


def test_rows_that_are_not_continued_stay_the_datas_own(lesson):
    mask = torch.zeros_like(lesson.ids, dtype=torch.bool)
    mask[:, 3:7] = True
    ids, counted = text(lesson, mask, share=0.5)
    same = [row for row in range(6) if torch.equal(ids[row], lesson.ids[row])]
    assert 0 < len(same) < 6
    for row in range(6):
        assert torch.equal(counted[row], mask[row]) == (row in same)


def test_the_same_training_again_ends_in_the_same_bits(lesson, windows):
    distill = Distill(steps=3, batch_size=2, teacher="on_policy", teacher_options={"share": 0.7}, patience=0)
    both = [distill.run(lesson.student, lesson.teacher, windows, windows[:2]) for _ in range(2)]
    assert both[0].curves == both[1].curves and 0 < both[0].tokens < 3 * 2 * 31


def test_wrong_options_are_said(lesson, windows):
    for options in ({"prompt": 0.0}, {"share": 2.0}, {"temperature": 0.0}):
        with pytest.raises(InvalidInput):
            OnPolicy(**options)
    distill = Distill(steps=1, teacher="on_policy")
    with pytest.raises(Unsupported, match="data's words"):
        replace(distill, losses={"hard_output": 1.0}).apply(lesson.student, lesson.teacher, windows, windows)
    with pytest.raises(ReferenceNotFound, match="prompt"):
        replace(distill, teacher_options={"promt": 1}).apply(lesson.student, lesson.teacher, windows, windows)
