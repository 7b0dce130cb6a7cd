"""The main job on a tiny model, end to end: stored only, cut and healed, and with a smaller vocabulary."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from smidgen.errors import InvalidInput, Locked, RecipeError
from smidgen.export import gguf
from smidgen.models.checkpoint import gguf as gguf_file
from smidgen.models.files import sha256_of
from smidgen.models.load import load
from smidgen.recipe.make import Outcome, apply, make
from smidgen.recipe.verify import verify

JUDGE = Path(__file__).parents[2] / "benchmarks" / "judge.py"
STORED, CUT = 140_000, 74_000
WITHIN = 64


@pytest.fixture(scope="session", autouse=True)
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A store of its own for what is made once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SMIDGEN_HOME", str(tmp_path_factory.mktemp("store")))
        yield


@pytest.fixture(scope="session")
def stored(source, hurried, store, tmp_path_factory) -> Outcome:
    return make(str(source), fit=STORED, within=WITHIN, out=tmp_path_factory.mktemp("made") / "stored", threads=1)


@pytest.fixture(scope="session")
def cut(source, data, hurried, store, tmp_path_factory) -> Outcome:
    out = tmp_path_factory.mktemp("made") / "cut"
    return make(str(source), fit=CUT, within=WITHIN, data=str(data), out=out, threads=1)


@pytest.fixture(scope="session")
def fewer_tokens(tiny_model, hurried, store, tmp_path_factory) -> Outcome:
    """By a recipe written by hand: a third of the tokens gone."""
    folder = tmp_path_factory.mktemp("vocabulary")
    model = tiny_model(num_hidden_layers=2, vocab_size=768, max_position_embeddings=512, initializer_range=0.08)
    gguf.write(model, folder / "wordy.gguf")
    recipe = {
        "source": str(folder / "wordy.gguf"),
        "windows": 4,
        "steps": [
            {"operation": "prune", "structure": "vocabulary", "criterion": "use", "keep": 512},
            {"operation": "quantize", "default": "q5_0", "solver": "nearest"},
        ],
    }
    (folder / "hand.yaml").write_text(yaml.safe_dump(recipe))
    return apply(folder / "hand.yaml", out=folder / "out", threads=1)


@pytest.fixture(params=["stored", "cut", "fewer_tokens"])
def made(request) -> Outcome:
    return request.getfixturevalue(request.param)


def test_the_folder_holds_what_is_promised(stored, cut, fewer_tokens):
    for outcome in (stored, cut, fewer_tokens):
        names = {path.name for path in outcome.folder.iterdir()}
        expected = {"model.gguf", "recipe.yaml", "Modelfile", "README.md", "receipt.json", "report.html", "evidence"}
        assert expected <= names and names - expected <= {"model", "LICENSE", "source-README.md", ".smidgen"}
        assert ("model" in names) == (outcome is not stored)
        assert {path.name for path in (outcome.folder / ".smidgen").iterdir()} == {"lock", "plan.json"}
        assert "<html" in (outcome.folder / "report.html").read_text()
        assert (outcome.folder / "Modelfile").read_text().startswith("FROM ./model.gguf\n")
        assert json.loads((outcome.folder / "receipt.json").read_text()) == json.loads(json.dumps(outcome.receipt))
        assert not [path for path in outcome.folder.rglob("*") if path.name.startswith(".tmp")]
        assert outcome.met and not outcome.already_done
    card = (cut.folder / "README.md").read_text()
    assert "license: mit" in card and "base_model: org/tiny" in card
    assert (cut.folder / "LICENSE").read_text() == "Do as you like.\n"
    assert "LICENSE Do as you like." in (cut.folder / "Modelfile").read_text()


def test_it_is_told_what_of_the_data_was_used(stored, cut):
    assert stored.receipt["data"] is None and not (stored.folder / "evidence" / "datasheet.md").exists()
    sheet = cut.receipt["data"]
    assert sheet["rows"][0] >= sheet["rows"][1] > 0 and len(sheet["sha256"]) == 64
    assert sheet["sha256"] in (cut.folder / "evidence" / "datasheet.md").read_text()


def test_the_budget_is_kept_by_what_it_takes(stored, cut, fewer_tokens):
    operations = [[step["operation"] for step in outcome.receipt["steps"]] for outcome in (stored, cut, fewer_tokens)]
    assert operations[0][0] == "quantize" and set(operations[0][1:]) <= {"distill"}
    assert operations[1][0] == "prune" and "distill" in operations[1] and "quantize" in operations[1]
    assert operations[1].index("distill") < operations[1].index("quantize"), "healed before it is stored"
    assert operations[2] == ["prune", "quantize"]
    for outcome, fit in ((stored, STORED), (cut, CUT)):
        size = (outcome.folder / "model.gguf").stat().st_size
        assert 0.9 * fit < size <= fit and outcome.receipt["met"] == {"size": True, "speed": None, "keep": None}


def test_the_receipt_holds_every_figure(made):
    receipt = made.receipt
    assert set(receipt) >= {
        *("format", "smidgen", "source", "budget", "plan", "steps", "result", "quality", "predicted", "speed"),
        *("memory", "machine", "met", "warnings", "samples", "parts", "tensors", "seconds"),
    }
    source, result = receipt["source"], receipt["result"]
    assert set(source) >= {"name", "sha256", "bytes", "parameters", "dequantised_from"}
    path = Path(source["name"])
    assert source["sha256"] == sha256_of(path) and source["bytes"] == path.stat().st_size
    assert source["parameters"] == load(str(path)).parameter_count()
    file = made.folder / "model.gguf"
    assert set(result) == {"bytes", "parameters", "bits_per_weight", "sha256"}
    assert result["sha256"] == sha256_of(file) and result["bytes"] == file.stat().st_size
    assert result["bits_per_weight"] == pytest.approx(8 * result["bytes"] / result["parameters"], abs=1e-3)
    assert sum(receipt["parts"]["after"].values()) == result["bytes"]
    assert sum(receipt["parts"]["before"].values()) == source["bytes"]
    tensors = gguf_file.read(file).tensors.values()
    assert (
        sum(tensor.shape[0] * tensor.shape[-1] for tensor in tensors if len(tensor.shape) == 2)
        + sum(tensor.shape[0] for tensor in tensors if len(tensor.shape) == 1)
        == result["parameters"]
    )
    for quality in receipt["quality"]:
        assert set(quality) >= {
            *("text", "tokens", "kl_mean", "kl_median", "kl_p99", "kl_p999", "same_top", "ppl_source"),
            *("ppl_result", "ppl_ratio", "ppl_ratio_se", "bits_per_byte", "sha256", "windows", "length"),
        }
        assert all(math.isfinite(value) for value in quality.values() if isinstance(value, float))
        assert 0 < quality["kl_median"] <= quality["kl_p99"] <= quality["kl_p999"]
        assert quality["ppl_ratio"] == pytest.approx(quality["ppl_result"] / quality["ppl_source"])
    assert set(receipt["speed"]) >= {"pp512", "tg128", "ttft_ms", "load_s"}
    assert receipt["speed"]["tg128"]["mean"] > 0 and receipt["memory"]["peak_rss_bytes"] > result["bytes"]
    assert receipt["machine"]["threads"] == 1 and set(receipt["met"]) == {"size", "speed", "keep"}
    for step in receipt["steps"]:
        assert set(step) == {"operation", "parameters", "key", "seconds", "curves"}
    plan = json.loads((made.folder / ".smidgen" / "plan.json").read_text())
    written = receipt["plan"]["decisions"]
    assert plan["entries"][: len(written)] == written and plan["entries"][-1]["name"] == "finished"


def test_predicted_stands_beside_measured(stored, cut):
    for outcome in (stored, cut):
        predicted, measured = outcome.receipt["predicted"], outcome.receipt["quality"][0]["kl_mean"]
        assert predicted["bytes"] == pytest.approx(outcome.receipt["result"]["bytes"], rel=0.06)
        assert predicted["kl_mean"] == pytest.approx(predicted["structural"] + predicted["quantization"], abs=2e-5)
        assert 0.2 < predicted["kl_mean"] / measured < 5
        assert all(tensor["damage_predicted"] is not None for tensor in outcome.receipt["tensors"])
    assert stored.receipt["predicted"]["structural"] == 0 < cut.receipt["predicted"]["structural"]


def test_an_independent_judge_agrees(made):
    texts = [quality["text"] for quality in made.receipt["quality"]]
    assert texts == (["held-out", "general"] if made.folder.name == "cut" else ["held-out"])
    for name in texts:
        words = [made.receipt["source"]["name"], made.folder / "model.gguf", made.folder / "evidence" / f"{name}.txt"]
        command = [sys.executable, JUDGE, *words, "--receipt", made.folder / "receipt.json", "--threads", "1"]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_recipe_gives_the_same_bytes_again(stored, tmp_path):
    again = apply(stored.folder / "recipe.yaml", out=tmp_path / "again")
    assert sha256_of(again.folder / "model.gguf") == stored.receipt["result"]["sha256"]
    assert again.receipt["result"] == stored.receipt["result"]
    assert (again.folder / "recipe.yaml").read_bytes() == (stored.folder / "recipe.yaml").read_bytes()


def test_the_cut_model_reloads_in_plain_transformers(cut):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    module = AutoModelForCausalLM.from_pretrained(cut.folder / "model")
    assert module.num_parameters() == cut.receipt["result"]["parameters"]
    assert len(AutoTokenizer.from_pretrained(cut.folder / "model")) == module.config.vocab_size


def test_nothing_in_the_folder_names_the_work_folder_or_the_time(made):
    source = Path(made.receipt["source"]["name"])
    for path in sorted(made.folder.rglob("*")):
        if not path.is_file() or ".smidgen" in path.parts:
            continue
        content = path.read_bytes()
        assert str(made.folder).encode() not in content and b".smidgen/" not in content, path.name
        # Only the lineage says which file was the source, as the person named it.
        if path.name == "model.gguf" or (path.parent.name == "model" and path.name != "smidgen.json"):
            assert str(source.parent).encode() not in content, path.name


def test_the_same_command_again_is_done_already(stored, source, hurried):
    before = {path: path.stat().st_mtime_ns for path in stored.folder.rglob("*") if path.name != "lock"}
    again = make(str(source), fit=STORED, within=WITHIN, out=stored.folder, threads=1)
    assert again.already_done and again.met and again.receipt == json.loads(json.dumps(stored.receipt))
    assert {path: path.stat().st_mtime_ns for path in stored.folder.rglob("*") if path.name != "lock"} == before


def test_another_command_into_the_same_folder_is_refused(stored, source):
    for change, named in (({"fit": 130_000}, "budget"), ({"seed": 5}, "seed"), ({"threads": 2}, "threads")):
        arguments = {"fit": STORED, "within": WITHIN, "threads": 1} | change
        with pytest.raises(InvalidInput, match=f"differs in {named}"):
            make(str(source), out=stored.folder, **arguments)
    with pytest.raises(InvalidInput, match="differs in"):
        apply(stored.folder / "recipe.yaml", out=stored.folder)
    assert verify(stored.folder).ok


def test_a_second_process_is_locked_out(source, tmp_path):
    lock = tmp_path / "out" / ".smidgen" / "lock"
    lock.parent.mkdir(parents=True)
    code = (
        f"import filelock, sys; held = filelock.FileLock({str(lock)!r}); held.acquire()\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    with pytest.raises(Locked, match=r"working in .*out"):
        make(str(source), fit=STORED, out=tmp_path / "out", threads=1)
    other.communicate("")
    assert lock.exists()


def test_a_recipe_for_another_source_is_refused(stored, tmp_path):
    text = (stored.folder / "recipe.yaml").read_text()
    content = yaml.safe_load(text)
    for name, words in (("sha256", "the recipe was written for"), ("data_sha256", "calibration text is not the one")):
        (tmp_path / "other.yaml").write_text(yaml.safe_dump(content | {name: "0" * 64}))
        with pytest.raises(RecipeError, match=words):
            apply(tmp_path / "other.yaml", out=tmp_path / "out")
        assert not (tmp_path / "out").exists()
