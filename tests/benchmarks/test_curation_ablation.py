"""What is planted is known, so what cleaning finds of it can be counted; trainings are kept."""

import json
import runpy
from pathlib import Path

import pytest
import torch

from smidgen.data import builtin
from smidgen.data.curation import Curation, describe
from smidgen.data.rows import Corpus, Row
from smidgen.export import safetensors

build_model = runpy.run_path(str(Path(__file__).parents[1] / "shrink" / "conftest.py"))["build_model"]


@pytest.fixture(scope="module")
def script(benchmark):
    return benchmark("curation_ablation")


@pytest.fixture(scope="module")
def good(script):
    """Passages of the built-in text in which cleaning finds nothing."""
    texts = script.passages(builtin.calibration())[:120]
    clean, _ = describe(Corpus("whole", tuple(map(Row, texts))), Curation(languages=("en",)))
    return [row.plain for row in clean.rows]


def test_cleaning_finds_what_was_planted_and_nothing_else(script, good):
    planted = script.plant(good, 0.1, seed=1)
    kept, _ = describe(planted.corpus, Curation(languages=("en",)))
    found = planted.caught(kept)
    assert set(found) == {*script.KINDS, "good"} and all(each["planted"] >= 10 for each in found.values())
    for kind in ("exact", "foreign", "repetition"):
        assert found[kind]["caught"] == found[kind]["planted"], kind
    boilerplate = found["boilerplate"]
    assert boilerplate["caught"] == boilerplate["planted"] - 1, "one notice stays"
    assert found["near"]["caught"] >= 0.9 * found["near"]["planted"]
    assert found["lines"]["caught"] >= 0.9 * found["lines"]["planted"]
    assert found["good"]["caught"] == 0
    untouched = planted.caught(planted.corpus)
    assert all(each["caught"] == 0 for each in untouched.values())


def test_both_texts_are_trained_on_with_as_many_tokens_and_kept(script, good, tmp_path, capsys):
    torch.set_num_threads(1)
    (tmp_path / "text.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in good[:24]))
    safetensors.write(build_model(vocab_size=1024), tmp_path / "model")
    words = ["--model", str(tmp_path / "model"), "--tokens", "512", "--length", "64", "--windows", "1", "--keep", "2"]
    words += [
        "--data",
        str(tmp_path / "text.jsonl"),
        "--calibration",
        "2",
        "--rate",
        "1e-3",
        "--seeds",
        "2",
        "--work",
        str(tmp_path / "work"),
    ]
    assert script.main([*words, "--loss", "hard_output", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    trained = [row for row in rows if row.get("loss")]
    assert [(row["text"], row["seed"]) for row in trained] == [(text, seed) for seed in (0, 1) for text in script.TEXTS]
    assert {row["distinct_windows"] for row in trained} == {8} and len({row["bits_per_byte"] for row in trained}) == 4
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "work").glob("row-*.json")}
    assert len(kept) == 5 and script.main([*words, "--loss", "hard_output"]) == 0
    shown = capsys.readouterr().out
    assert "| hard_output | curated |" in shown and "| exact |" in shown
    assert kept == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "work").glob("row-*.json")}
