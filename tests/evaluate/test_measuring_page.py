"""The rows that the page about measuring shows can be asked as they stand."""

import re
from pathlib import Path

import pytest

from smidgen.evaluate import benchmarks
from smidgen.evaluate.benchmarks._benchmark import Answer
from smidgen.evaluate.tasks import read_exam

PAGE = (Path(__file__).parents[2] / "docs" / "measuring.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"^\| `(\w+)` \| `(\{.*\})` \|", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("task", "row"), SHOWN)
def test_a_shown_row_is_a_question(task, row, tmp_path):
    file = tmp_path / "own.jsonl"
    other = row.replace('"spam"', '"ham"')  # a label alone tells nothing apart
    file.write_text(f"{row}\n{other}\n", encoding="utf-8")
    exam = read_exam(task, file, shots=0)
    question = exam.questions[0]
    answer = Answer((0.0, -9.0), (True, False), question.references[0] if question.references else "")
    assert exam.benchmark.score(question, answer)


def test_every_task_is_on_the_page_with_its_scores():
    named = dict(re.findall(r"^\| `(\w+)` \| (.*)$", PAGE, re.MULTILINE))
    assert set(named) == set(benchmarks.names()) and len(SHOWN) >= 9
    for name, line in named.items():
        benchmark = benchmarks.find(name)
        if not line.startswith("`"):
            assert f"`{benchmark.main}`" in line
            assert (benchmark.shots == 0) == ("| none |" in line or name == "truthfulqa")
