import json

import pytest

from smidgen.cli.main import main


def test_a_model_is_measured_against_another(tiny_gguf, capsys):
    words = ["measure", str(tiny_gguf), "--against", str(tiny_gguf), "--windows", "1", "--threads", "1", "--quiet"]
    assert main([*words, "--no-speed", "--json"]) == 0
    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert model["quality"][0]["kl_mean"] < 1e-6 and model["quality"][0]["same_top"] == 1
    assert model["speed"] is None and model["bytes"] == tiny_gguf.stat().st_size


def test_a_person_sees_tables(tiny_gguf, tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("Words of this and that, and one more. " * 200)
    words = ["measure", str(tiny_gguf), "--text", str(text), "--windows", "1", "--threads", "1", "--quiet"]
    assert main([*words, "--price", "0.1"]) == 0
    shown = capsys.readouterr().out
    assert "text.txt" in shown and "bits per byte" in shown and "tok/s" in shown
    assert "a million tokens costs" in shown
    assert main([*words, "--no-speed", "--against", str(tiny_gguf)]) == 0
    shown = capsys.readouterr().out
    assert "same top" in shown and "100.0%" in shown and "not measured" in shown


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["measure", "smolm2:135m"], "Did you mean 'smollm2:135m'"),
        (["measure", "{model}", "--againts", "x"], "--against"),
        (["measure", "{model}", "--text", "nothing.txt"], "There is no file"),
        (["measure", "{model}", "--against", "{model}x"], "Did you mean"),
        (["measure", "{model}", "--windows", "0"], "at least 1 window"),
        (["measure"], "Missing argument"),
    ],
)
def test_typos_exit_2(words, part, tiny_gguf, capsys):
    assert main([*(word.format(model=tiny_gguf) for word in words), "--quiet"]) == 2
    assert part in capsys.readouterr().err


def test_what_takes_more_memory_than_is_allowed_or_free_is_not_loaded(tiny_gguf, tmp_path, monkeypatch, capsys):
    assert main(["measure", str(tiny_gguf), "--max-memory", "1MB", "--quiet"]) == 2
    shown = capsys.readouterr().err
    assert "needs about" in shown and "allowed by --max-memory" in shown and "Nothing was loaded" in shown
    monkeypatch.setattr("smidgen.machine.memory", lambda: (10**9, 1_000_000))
    rows = tmp_path / "own.jsonl"
    rows.write_text('{"prompt": "One and", "choices": ["two", "three"], "answer": 0}\n')
    for more in ([], ["--task", "choices", "--task-file", str(rows)], ["--weakness", "repetition"]):
        assert main(["measure", str(tiny_gguf), *more, "--quiet"]) == 2
        assert "1.0 MB are free" in capsys.readouterr().err


def test_a_text_that_is_too_short_is_refused(tiny_gguf, tmp_path, capsys):
    (tmp_path / "short.txt").write_text("Three short words.")
    assert main(["measure", str(tiny_gguf), "--text", str(tmp_path / "short.txt"), "-q"]) == 2
    assert "one window needs" in capsys.readouterr().err


def test_a_task_is_scored_and_compared_with_the_source(tiny_gguf, tmp_path, capsys):
    rows = tmp_path / "own.jsonl"
    rows.write_text('{"prompt": "One and", "choices": ["two", "three"], "answer": 0}\n' * 2)
    words = ["measure", str(tiny_gguf), "--task", "choices", "--task-file", str(rows), "--threads", "1", "--quiet"]
    assert main([*words, "--limit", "1", "--json"]) == 0
    (score,) = json.loads(capsys.readouterr().out)["tasks"]
    assert score["items"] == 1 and score["figures"]["acc"]["value"] in (0, 1) and score["difference"] is None
    assert main(words) == 0
    assert "acc_norm" in capsys.readouterr().out


def test_labels_are_shown_with_macro_f1_and_what_was_mistaken(tiny_gguf, tmp_path, capsys):
    rows = tmp_path / "own.csv"
    words = ["measure", str(tiny_gguf), "--task", "classification", "--task-file", str(rows), "--threads", "1", "-q"]
    rows.write_text("text,label\n" + "One and two,spam\nThree,ham\n")
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "macro_f1 0." in shown and "said ham" in shown
    rows.write_text("text,label\n" + "".join(f"One and,label{number}\n" for number in range(11)))
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "mistaken most" in shown and "said label1 " not in shown


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--task", "arc"], "arc takes allenai/ai2_arc"),
        (["--task", "ark", "--task-file", "x"], "Did you mean 'arc'"),
        (["--task", "arc", "--task-file", "x", "--limit", "0"], "limit of 1"),
        (["--task", "arc", "--task-file", "x", "--few-shot", "-1"], "worked examples are too few"),
        (["--task", "arc", "--task-file", "x", "--engine", "torhc"], "Did you mean 'torch'"),
        (["--task", "arc", "--task-file", "nothing.jsonl"], "answerKey"),
        (["--task", "arc", "--task-file", "a", "--few-shot-file", "b", "--few-shot-file", "c"], "worked examples"),
    ],
)
def test_tasks_that_cannot_be_scored_exit_2(words, part, tiny_gguf, capsys):
    assert main(["measure", str(tiny_gguf), *words, "--quiet"]) == 2
    assert part in capsys.readouterr().err


def test_weaknesses_are_shown_in_words_and_as_data(tiny_gguf, tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("Words of this and that, and one more. " * 400)
    words = ["measure", str(tiny_gguf), "--weakness", "off_domain", "--text", str(text), "--windows", "2", "--quiet"]
    assert main([*words, "--threads", "1", "--against", str(tiny_gguf), "--json"]) == 0
    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert model["findings"][0]["name"] == "off_domain" and model["findings"][0]["value"] == 0
    assert main([*words, "--threads", "1"]) == 0
    assert "bits per byte" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--weakness", "turn"], "Did you mean 'turns'"),
        (["--weaknesses", "--windows", "1"], "at least 2 and 64"),
        (["--weaknesses", "--trained-on", "nothing.txt"], "There is no file"),
        (["--keep"], "holds no receipt.json"),
    ],
)
def test_weaknesses_that_cannot_be_looked_for_exit_2(words, part, tiny_gguf, capsys):
    assert main(["measure", str(tiny_gguf), *words, "--quiet"]) == 2
    assert part in capsys.readouterr().err


def test_curves_are_shown_and_given_as_data(tiny_gguf, capsys):
    words = ["measure", str(tiny_gguf), "--depth", "16", "--streams", "2", "--threads", "1", "--quiet"]
    assert main([*words, "--json"]) == 0
    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert model["depths"][0]["depth"] == 16 and model["streams"][0]["streams"] == 2
    assert main(words) == 0
    assert "answers at once" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--depth", "-1"], "cannot be measured"),
        (["--price", "0"], "is not possible"),
        (["--curves", "--streams", "0"], "cannot be measured"),
    ],
)
def test_curves_and_prices_that_cannot_be_exit_2(words, part, tiny_gguf, capsys):
    assert main(["measure", str(tiny_gguf), *words, "--quiet"]) == 2
    assert part in capsys.readouterr().err
