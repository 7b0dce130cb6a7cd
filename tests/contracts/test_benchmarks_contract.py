"""What every benchmark must keep, run on every file of the family with rows of its kind written by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from smidgen import registry
from smidgen.data.remembering import Notebook
from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.evaluate import benchmarks
from smidgen.evaluate.benchmarks._benchmark import Answer
from smidgen.evaluate.tasks import read_exam, take

NAMES = registry.names(benchmarks.__name__)
ROWS = json.loads(Path(__file__).with_name("benchmark_rows.json").read_text(encoding="utf-8"))
each_benchmark = pytest.mark.parametrize("name", NAMES)


class Knowing:
    """Finds the right answers likely, or the wrong ones; knows what to write where that is no reference."""

    def __init__(self, right: bool, answers: dict[str, str] | None = None) -> None:
        self.right, self.asked, self.answers = right, 0, answers or {}

    def answer(self, before, questions):
        self.asked += len(questions)
        return [self._one(question) for question in questions]

    def _one(self, question):
        known = [(number in question.right) == self.right for number in range(len(question.endings))]
        text = question.references[0] if question.references and self.right else "no idea"
        if question.references and self.right and "####" in question.worked:
            text = question.worked.rpartition("\nAnswer:")[2]
        if self.right:
            text = self.answers.get(question.prompts[0], text)
        return Answer(tuple(0.0 if each else -300.0 for each in known), tuple(known), text)


@pytest.fixture
def exam(name, tmp_path):
    file = tmp_path / f"{name}.jsonl"
    for image in (tmp_path / row["image_path"] for row in ROWS[name]["rows"] if "image_path" in row):
        image.parent.mkdir(exist_ok=True)
        image.touch()
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS[name]["rows"]), encoding="utf-8")
    return read_exam(name, file, examples=file, shots=0), file


def test_every_benchmark_has_rows_here():
    assert set(NAMES) == set(ROWS) and len(NAMES) >= ROWS["arc"]["at_least"]


@each_benchmark
def test_prompts_are_as_written_here(name, exam):
    first, expected = exam[0].questions[0], ROWS[name]
    assert f"{exam[0].before[0]}{first.prompts[-1]}" == expected["prompt"]
    assert list(first.endings or first.references) == expected["endings"]
    assert first.worked == expected["worked"]
    assert len(first.prompts) == max(1, len(first.endings)) and set(first.right) <= set(range(len(first.endings)))
    assert len(first.choices) in (0, len(first.endings)) and all(first.choices)


@each_benchmark
def test_right_answers_score_1_and_wrong_ones_0(name, exam, tmp_path):
    prompts = [question.prompts[0] for question in exam[0].questions]
    known = dict(zip(prompts, ROWS[name].get("answers", ()), strict=False))
    both = [(right, Knowing(right, known)) for right in (True, False)]
    taken = [take(exam[0], "fake", knowing, Notebook(tmp_path / f"{right}.jsonl")) for right, knowing in both]
    best, worst = (score.figures[score.main].value for score in taken)
    assert best == pytest.approx(1) and worst == pytest.approx(0, abs=1e-9)
    assert taken[0].items == len(ROWS[name]["rows"]) > 1 and len(taken[0].scores) == taken[0].items
    assert all(math.isfinite(each.standard_error) for each in taken[0].figures.values())
    json.dumps(taken[0].to_dict(), allow_nan=False)


@each_benchmark
def test_answers_are_kept_and_asked_once(name, exam, tmp_path):
    first, second = Knowing(True), Knowing(False)
    scores = [take(exam[0], "fake", each, Notebook(tmp_path / "kept.jsonl")) for each in (first, second)]
    assert second.asked == 0 < first.asked and scores[0].scores == scores[1].scores


@each_benchmark
def test_worked_examples_stand_before_the_question(name, exam):
    shown = read_exam(name, exam[1], examples=exam[1], shots=1).before[0]
    assert shown.endswith("\n\n") and any(f"{each.worked}\n\n" in shown for each in exam[0].questions)


@each_benchmark
def test_malformed_rows_and_missing_files_say_what_is_needed(name, exam, tmp_path):
    exam[1].write_text(json.dumps(ROWS[name]["rows"][0]) + '\n{"other": 1}\n', encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"line 2 has no") as found:
        read_exam(name, exam[1], shots=0)
    assert exam[0].benchmark.expects in str(found.value)
    with pytest.raises(ReferenceNotFound, match=r"There is no file") as missing:
        read_exam(name, tmp_path / "none.jsonl")
    source = exam[0].benchmark.source
    assert (f"(public: {source})" in str(missing.value)) == ("/" in source)  # nobody publishes your own rows
