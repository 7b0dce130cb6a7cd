"""Tasks scored with a real tiny model, stopped and gone on with, compared in pairs."""

import json
import random

import pytest

from smidgen.data.remembering import Notebook
from smidgen.errors import InvalidInput, ReferenceNotFound, SourceUnavailable
from smidgen.evaluate.answering import Likelihoods
from smidgen.evaluate.benchmarks._benchmark import Answer, Question
from smidgen.evaluate.paired import bootstrap, difference, mcnemar
from smidgen.evaluate.respondents import measure_tasks
from smidgen.evaluate.tasks import read_exam, take
from smidgen.inference.scoring import PromptScorer

ROWS = [
    {"prompt": f"The parser number {number} takes", "choices": ["an argument", "no option at all", "it"], "answer": 0}
    for number in range(3)
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


def test_likelihoods_are_those_of_the_tokens_behind_the_prompt(source, file):
    exam = read_exam("choices", file, examples=file, shots=1)
    with PromptScorer(source.path, threads=1, context=128) as scorer:
        answering = Likelihoods(scorer)
        found = answering.answer(exam.before[0], exam.questions[:2])
        for question, answer in zip(exam.questions, found, strict=False):
            for prompt, ending, value in zip(question.prompts, question.endings, answer.likelihoods, strict=True):
                context = scorer.tokenize(exam.before[0] + prompt, special=True)
                whole = scorer.tokenize(exam.before[0] + prompt + ending, special=True)
                alone = scorer.next_token_logprobs([*context, *whole[len(context) :]], start=len(context) - 1)
                assert value == pytest.approx(float(alone.sum()), abs=1e-3)
        spaced = Question(("The parser ",), ("takes",), ("takes",), (0,))
        plain = Question(("The parser",), (" takes",), ("takes",), (0,))
        assert answering.answer("", [spaced]) == answering.answer("", [plain]) and answering.cut == 0
        answering.answer("", [Question(("word " * 200,), (" end",), ("end",), (0,))])
        assert answering.cut == 1


def test_a_stopped_run_asks_only_for_what_is_missing(source, file, tmp_path):
    exams = [read_exam("choices", file)]
    (first,) = measure_tasks(str(source.path), exams, threads=1, cache=tmp_path / "kept")
    (kept,) = (tmp_path / "kept").iterdir()
    lines = kept.read_bytes().splitlines(keepends=True)
    assert len(lines) == 3
    kept.write_bytes(b"".join(lines[:2]) + lines[2][:-5])
    (again,) = measure_tasks(str(source.path), exams, threads=1, cache=tmp_path / "kept")
    assert again == first and kept.read_bytes().splitlines()[:2] == b"".join(lines[:2]).splitlines()
    compared = again.against(first)
    assert compared.value == 0 and compared.p_value == 1 and compared.items == 3


def test_a_server_that_dies_midway_leaves_what_it_answered(tmp_path):
    rows = tmp_path / "own.jsonl"
    rows.write_text("".join(f'{{"prompt": "{number}", "answer": "{number}"}}\n' for number in range(3)))
    asked = []

    class Dying:
        """Writes what it was asked, twice."""

        def answer(self, before, questions):
            """Answer, or fail as a server does that is gone."""
            asked.extend(questions)
            if len(asked) == 3:
                raise SourceUnavailable("The server does not answer.", remedy="Check that it runs.")
            return [Answer(text=question.prompts[0]) for question in questions]

    exam, kept = read_exam("exact", rows), tmp_path / "kept.jsonl"
    with pytest.raises(
        SourceUnavailable, match=r"Check that it runs\. 2 of 3 answers are kept; the same command goes on"
    ):
        take(exam, "far", Dying(), Notebook(kept))
    score = take(exam, "far", Dying(), Notebook(kept))
    assert len(asked) == 4 and score.items == 3 and score.figures["acc"].value == 1


def test_worked_examples_are_drawn_as_published(tmp_path, file):
    exam = read_exam("choices", file, examples=file, shots=2)
    generator = random.Random(1234)
    for before in exam.before:
        drawn = generator.sample([f"The parser number {number} takes an argument\n\n" for number in range(3)], 2)
        assert before == "".join(drawn)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"shots": 1}, "--few-shot-file"),
        ({"shots": -1}, "worked examples are too few"),
        ({"limit": 0}, "limit of 1"),
        ({"shots": 4, "examples": True}, "fewer than 4"),
    ],
)
def test_options_that_cannot_be(options, part, file):
    if "examples" in options:
        options = options | {"examples": file}
    with pytest.raises(InvalidInput, match=part):
        read_exam("choices", file, **options)


def test_a_csv_is_read_and_its_malformed_line_named(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text('prompt,choices,answer\nIce is,"[""cold"", ""hot""]",cold\nFire is,"[""cold""",1\n')
    with pytest.raises(InvalidInput, match=r"own\.csv, line 3 has 'choices' that is no JSON list"):
        read_exam("choices", path)
    path.write_text('prompt,choices,answer\nIce is,"[""cold"", ""hot""]",hot\n')
    assert read_exam("choices", path).questions[0].right == (1,)


def test_scores_of_other_questions_are_not_compared(file, tmp_path):
    class Sure:
        def answer(self, before, questions):
            return [Answer((0.0, -1.0, -2.0), (True, False, False)) for _ in questions]

    one = take(read_exam("choices", file), "a", Sure(), Notebook(tmp_path / "a"))
    two = take(read_exam("choices", file, limit=2), "b", Sure(), Notebook(tmp_path / "b"))
    with pytest.raises(InvalidInput, match="other questions"):
        one.against(two)


def test_worked_numbers_of_the_paired_tests():
    assert mcnemar(6, 16) == pytest.approx(0.0524788, abs=1e-7)  # 2 · sum of C(22, k) for k ≤ 6, over 2^22
    assert mcnemar(16, 6) == mcnemar(6, 16) and mcnemar(0, 5) == 2 / 32
    low, high, p_value = bootstrap([0.0] * 50 + [1.0] * 50, [0.0] * 50 + [1.0] * 50)
    assert (low, high, p_value) == (0, 0, 1)
    found = difference([0.1, 0.4, 0.2, 0.5], [0.2, 0.6, 0.5, 0.9])
    assert found.value == pytest.approx(0.25) and 0.1 <= found.low < 0.25 < found.high <= 0.4
    assert found.test == "paired bootstrap" and found.p_value < 0.01
    with pytest.raises(InvalidInput, match="cannot be compared"):
        difference([1], [])


def test_an_answer_that_is_no_choice_is_told_with_the_choices(tmp_path):
    rows = tmp_path / "own.jsonl"
    rows.write_text('{"prompt": "The sun is", "choices": ["hot", "cold"], "answer": "warm"}\n')
    with pytest.raises(InvalidInput, match="line 1 has the answer 'warm', which is none of its choices: hot, cold"):
        read_exam("choices", rows)


def test_a_task_of_own_rows_names_no_public_file(tmp_path):
    with pytest.raises(ReferenceNotFound) as caught:
        read_exam("choices", tmp_path / "none.jsonl")
    assert "(public:" not in str(caught.value.remedy) and "choices, and answer" in str(caught.value.remedy)
