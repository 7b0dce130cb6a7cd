"""The specialised model's benchmark, on a tiny random model that learns to say one of two words."""

import importlib.util
import json
import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from smidgen.data.rows import Corpus, Row
from smidgen.export import safetensors

ROOT = Path(__file__).parents[2]
build_model = runpy.run_path(str(ROOT / "tests" / "shrink" / "conftest.py"))["build_model"]


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("specialised", ROOT / "benchmarks" / "specialised_spam.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_model_is_made_and_asked_and_nothing_twice(benchmark, published_tokenizer, tmp_path, capsys):
    words = "claim your cash prize now", "see you at home tonight"
    rows = [{"text": f"{n} {words[n % 2]} {n * 7919}", "label": ("spam", "ham")[n % 2]} for n in range(60)]
    (tmp_path / "messages.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    shape = {"num_hidden_layers": 4, "initializer_range": 0.08, "max_position_embeddings": 1024}
    tiny = replace(build_model(**shape), tokenizer=published_tokenizer("smollm", 400))
    safetensors.write(tiny, tmp_path / "tiny", dtype="float32")
    given = {"--data": "messages.jsonl", "--model": "tiny", "--work": "work"}
    asked = [str(word) for name, value in given.items() for word in (name, tmp_path / value)]
    asked += ["--rows", "50", "--windows", "1", "--threads", "1", "--learning-rate", "0.003", "--json"]
    assert benchmark.main(asked) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"]["training"] == 40 and found["rows"]["test"] == 10
    source, tuned, shrunk = found["results"]
    assert shrunk["layers"] == 3 and shrunk["bytes"] < 0.5 * tuned["bytes"] == 0.5 * source["bytes"]
    curves = [each["curves"] for each in found["training"] if each["curves"]]
    assert len(curves) == 2 and all(each["held_out"][-1][1] < each["held_out"][0][1] for each in curves)
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*") if path.is_file()}
    assert benchmark.main(asked) == 0 and json.loads(capsys.readouterr().out)["results"] == found["results"]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*") if path.is_file()} == made


def test_the_messages_are_divided_by_the_seed(benchmark):
    corpus = Corpus("messages", tuple(Row(f"message {n}", label="ham") for n in range(50)))
    training, test = benchmark.divided(corpus, 0, None)
    assert len(training) == 40 and len(test) == 10
    assert not {row.prompt for row in training} & {row.prompt for row in test}
    assert benchmark.divided(corpus, 0, None) == (training, test) != benchmark.divided(corpus, 1, None)
    assert len(benchmark.divided(corpus, 0, 20)[1]) == 4


def test_the_first_label_in_an_answer_counts(benchmark):
    assert benchmark.answer_of("Ham.") == "ham" and benchmark.answer_of("It is spam, not ham") == "spam"
    assert benchmark.answer_of("hamster") is None


def test_without_messages_nothing_is_measured(benchmark, capsys):
    assert benchmark.main([]) == 0 and "--data" in capsys.readouterr().out
