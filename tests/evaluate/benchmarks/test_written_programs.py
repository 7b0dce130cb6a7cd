"""Programs that models write, run with their tests; whatever they do, the run goes on."""

import json
import sys

import pytest

from smidgen import sandbox
from smidgen.cli.main import main
from smidgen.data.remembering import Notebook
from smidgen.errors import InvalidInput, Unsupported
from smidgen.evaluate.benchmarks._benchmark import Answer
from smidgen.evaluate.tasks import read_exam, take
from smidgen.sandbox import Limits, Protection


def row(number, name="f"):
    return {"task_id": number, "text": f"Write {name}.", "code": f"def {name}(): return 1", "test_list": [f"{name}()"]}


def file_of(tmp_path, rows):
    path = tmp_path / "mbpp.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    return path


class Answers:
    def __init__(self, texts):
        self.texts = iter(texts)

    def answer(self, before, questions):
        return [Answer(text=next(self.texts)) for _ in questions]


@pytest.mark.skipif(sys.platform != "linux", reason="the limits are Linux's")
def test_programs_that_loop_fork_or_fill_memory_are_wrong_and_the_run_goes_on(tmp_path, monkeypatch):
    real = sandbox.run
    monkeypatch.setattr(sandbox, "run", lambda program: real(program, Limits(processor_seconds=1, memory_bytes=2**28)))
    texts = [
        "def f1():\n  while True: pass",
        "import os\ndef f2():\n  while True: os.fork()",
        "def f3(): return [bytearray(2**24) for _ in range(10**6)]",
        "def f4(): pass",
    ]
    exam = read_exam("mbpp", file_of(tmp_path, [row(10 + number, f"f{number}") for number in (1, 2, 3, 4)]), shots=0)
    score = take(exam, "fake", Answers(texts), Notebook(tmp_path / "kept"))
    assert [each["pass@1"] for each in score.scores] == [0, 0, 0, 1]
    failures = score.details["failures"]
    assert sum(failures.values()) == 3 and failures["MemoryError"] == 1
    assert failures["not done after 1 s of processor time"] == 1


def test_of_all_rows_the_published_ones_are_asked_and_shown(tmp_path):
    path = file_of(tmp_path, [row(number, f"f{number}") for number in (1, 2, 3, 4, 10, 11, 510, 511, 900)])
    exam = read_exam("mbpp", path, examples=path)
    assert [question.worked.rpartition("def ")[2][:4] for question in exam.questions] == ["f11(", "f510"]
    assert [exam.before[0].count(f"def f{number}()") for number in (1, 2, 3, 4, 10)] == [0, 1, 1, 1, 0]
    with pytest.raises(InvalidInput, match="no row of the part"):
        read_exam("mbpp", file_of(tmp_path, [row(7)]), shots=0)


def test_programs_are_refused_where_nothing_would_hold_them(tmp_path, monkeypatch, capsys):
    path = file_of(tmp_path, [row(11)])
    monkeypatch.setattr(sandbox, "protection", lambda: Protection(limits=True, network="Python only"))
    with pytest.raises(Unsupported, match=r"lacks a way to forbid processes, a way to cut off the network") as found:
        read_exam("mbpp", path, shots=0)
    assert "--allow-code-execution" in str(found.value)
    assert read_exam("mbpp", path, shots=0, allow_code_execution=True).questions
    words = ["measure", "none", "--task", "mbpp", "--task-file", str(path), "--few-shot", "0"]
    assert main(words) == 2 and "--allow-code-execution" in capsys.readouterr().err
