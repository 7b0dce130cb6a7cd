import json
import shutil

import pytest

from smidgen.cli.main import main
from smidgen.cli.make import _show_forecast
from smidgen.cli.screen import Screen
from smidgen.export import gguf
from smidgen.recipe.job import Forecast

BUDGET = ["--fit", "100KB", "--within", "5s", "--threads", "1", "--quiet"]


@pytest.fixture(scope="module")
def source(tmp_path_factory, tiny_model):
    path = tmp_path_factory.mktemp("source") / "tiny.gguf"
    gguf.write(tiny_model(max_position_embeddings=512), path)
    return path


@pytest.fixture(scope="module")
def made(source, tmp_path_factory):
    """A folder made within a budget that can be met."""
    folder = tmp_path_factory.mktemp("made") / "small"
    assert main(["make", str(source), *BUDGET, "--out", str(folder)]) == 0
    return folder


def test_a_made_folder_says_what_was_asked_and_reached(source, made, capsys):
    assert main(["make", str(source), *BUDGET, "--out", str(made)]) == 0
    shown = capsys.readouterr().out
    for words in (
        "at most 100.0 KB",
        "met",
        "top choices",
        "KL ",
        "> What is the capital of Japan?",
        "before: ",
        "report.html",
    ):
        assert words in shown
    assert (made / "model.gguf").stat().st_size <= 100_000 and (made / "report.html").is_file()


def test_the_outcome_as_json(source, made, capsys):
    assert main(["make", str(source), *BUDGET, "--out", str(made), "--json"]) == 0
    outcome = json.loads(capsys.readouterr().out)
    assert outcome["met"] and outcome["already_done"] and outcome["missed"] is None
    assert outcome["receipt"]["met"]["size"] is True and outcome["receipt"]["result"]["bytes"] <= 100_000


def test_a_made_folder_runs(made, capsys):
    words = ["run", str(made), "hi", "--num-predict", "2", "--temperature", "0", "--threads", "1", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["generated_tokens"] >= 1


def test_a_missed_limit_exits_3_and_keeps_the_best(source, tmp_path, capsys):
    words = ["make", str(source), *BUDGET, "--keep", "99.9%", "--out", str(tmp_path / "out")]
    assert main(words) == 3
    shown = capsys.readouterr()
    assert "missed" in shown.out and "top choices stayed" in shown.err and str(tmp_path / "out") in shown.err
    assert (tmp_path / "out" / "model.gguf").is_file()
    assert main([*words, "--json"]) == 3
    outcome = json.loads(capsys.readouterr().out)
    assert not outcome["met"] and "top choices" in outcome["missed"]


def test_a_size_out_of_reach_exits_3_and_says_what_it_takes(source, tmp_path, capsys):
    assert main(["make", str(source), "--fit", "1KB", "--threads", "1", "-q", "--out", str(tmp_path / "out")]) == 3
    assert "smallest" in capsys.readouterr().err and not (tmp_path / "out" / "model.gguf").exists()


def test_a_dry_run_foretells_and_writes_nothing(source, tmp_path, capsys):
    words = ["make", str(source), *BUDGET, "--out", str(tmp_path / "out"), "--dry-run", "--json"]
    assert main(words) == 0
    forecast = json.loads(capsys.readouterr().out)
    assert forecast["steps"] and forecast["disk_bytes"] > 0 and list(tmp_path.iterdir()) == []


def test_a_forecast_in_words(capsys):
    expected = Forecast(["Store 9 matrices."], {"bytes": 80e6, "kl_mean": 0.05}, [], 240.0, 2 * 10**9, 10**9)
    _show_forecast(Screen(), expected, "small")
    shown = capsys.readouterr().out
    for words in ("1. Store 9 matrices.", "80.0 MB", "0.0500", "4 min 0 s", "2.0 GB", "1.0 GB", "small"):
        assert words in shown


def test_a_recipe_gives_the_same_bytes(made, tmp_path, capsys):
    assert main(["apply", str(made / "recipe.yaml"), "--out", str(tmp_path / "again"), "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["receipt"]["machine"]["threads"] == 1
    assert (tmp_path / "again" / "model.gguf").read_bytes() == (made / "model.gguf").read_bytes()


def test_a_receipt_is_verified_and_a_drift_exits_3(made, tmp_path, capsys):
    assert main(["verify", str(made), "--quiet"]) == 0
    assert "as stated" in capsys.readouterr().out
    folder = shutil.copytree(made, tmp_path / "changed")
    receipt = json.loads((folder / "receipt.json").read_text())
    receipt["quality"][0]["kl_mean"] *= 2
    (folder / "receipt.json").write_text(json.dumps(receipt))
    assert main(["verify", str(folder), "--quiet"]) == 3
    shown = capsys.readouterr()
    assert "drifted" in shown.out and "kl_mean" in shown.err
    assert main(["verify", str(folder), "--quiet", "--json"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert not found["ok"] and [check["name"] for check in found["checks"] if not check["ok"]] == ["held-out: kl_mean"]


@pytest.mark.parametrize("words", [["verify", "no-such-folder"], ["verify", ".", "--jsn"], ["verify"]])
def test_typos_of_verify_exit_2(words, capsys):
    assert main(words) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["make", "smolm2:135m", "--fit", "80MB"], "Did you mean 'smollm2:135m'"),
        (["make", "{source}", "--fit", "80"], "no unit"),
        (["make", "{source}", "--fit", "80MB", "--keep", "95"], "95%"),
        (["make", "{source}", "--fti", "80MB"], "--fit"),
        (["make", "{source}"], "needs a size"),
        (["make", "{source}", "--fit", "80MB", "--for", "nothing.txt"], "There is no file"),
        (["apply", "recipe.yml"], "There is no recipe"),
        (["apply", "{source}", "--frsh"], "--fresh"),
    ],
)
def test_typos_exit_2(words, part, source, tmp_path, capsys):
    assert main([*(word.format(source=source) for word in words), "--out", str(tmp_path / "out"), "--quiet"]) == 2
    error = capsys.readouterr().err
    assert part in error and "Traceback" not in error


def test_an_output_that_cannot_be_is_refused(source, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    for out in ("file", "file/out"):
        assert main(["make", str(source), *BUDGET, "--out", str(tmp_path / out)]) == 2
        assert "Traceback" not in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"
