import json
from dataclasses import replace

import pytest
import torch

import smidgen
from smidgen.cli.main import main
from smidgen.export import safetensors
from smidgen.models.load import read_gguf

QUICK = ["--steps", "2", "--batch-size", "2", "--length", "64", "--learning-rate", "0.01", "--method", "lora"]


@pytest.fixture(scope="module")
def folder(tiny_model, published_tokenizer, tmp_path_factory):
    model = replace(tiny_model(initializer_range=0.08), tokenizer=published_tokenizer("smollm", 400))
    path = tmp_path_factory.mktemp("source") / "tiny"
    safetensors.write(model, path, dtype="float32")
    (path / "LICENSE").write_text("Do as you like.\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def messages(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "messages.jsonl"
    words = "claim your prize of cash money now or never again", "see you at home later tonight my dear friend"
    rows = [{"text": f"{n} {words[n % 2]} {n * 7919}", "label": ("spam", "ham")[n % 2]} for n in range(80)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def run_json(capsys, *words):
    code = main([*map(str, words), "--json", "--quiet"])
    shown = capsys.readouterr()
    assert shown.err == "", shown.err
    return code, json.loads(shown.out)


def test_an_adapter_apart_is_merged_into_its_base_later(folder, messages, tmp_path, capsys):
    tune = ["finetune", folder, *QUICK, "--rank", "4", "--for", messages]
    run_json(capsys, *tune, "--apart", "--out", tmp_path / "apart")
    run_json(capsys, *tune, "--out", tmp_path / "tuned")
    code, made = run_json(capsys, "merge", tmp_path / "apart", "--into", folder, "--out", tmp_path / "merged", "--gguf")
    assert code == 0 and made["step"]["operation"] == "merge" and "note" not in made["step"]
    assert (tmp_path / "merged" / "LICENSE").exists() and (tmp_path / "merged" / "model.gguf").exists()
    tuned, merged = (smidgen.load(str(tmp_path / name)).module.state_dict() for name in ("tuned", "merged"))
    assert all(torch.allclose(value, merged[name], atol=1e-2) for name, value in tuned.items())
    before = smidgen.load(str(folder)).module.state_dict()
    assert not all(torch.allclose(value, merged[name], atol=1e-2) for name, value in before.items())
    words = ["merge", str(tmp_path / "apart" / "adapter.gguf"), "--into", str(folder)]
    assert main([*words, "--out", str(tmp_path / "one.gguf")]) == 0
    assert "merge" in capsys.readouterr().out
    stored = read_gguf(tmp_path / "one.gguf", torch.float32).module.state_dict()
    assert all(torch.allclose(value, stored[name], atol=1e-2) for name, value in tuned.items())
    assert main([*words, "--out", str(tmp_path / "one.gguf")]) == 2 and "--force" in capsys.readouterr().err
    verb = smidgen.merge(tmp_path / "apart", str(folder)).module.state_dict()
    assert all(torch.allclose(value, verb[name], atol=1e-2) for name, value in merged.items())


def test_pruned_weights_stay_zero_and_adapters_apart_are_refused_early(folder, messages, tmp_path, capsys):
    cut = tmp_path / "cut"
    words = ["--structure", "weight", "--criterion", "l1", "--sparsity", "0.5", "--windows", "1", "--out", cut]
    run_json(capsys, "prune", folder, *words)
    code, _ = run_json(capsys, "finetune", cut, *QUICK, "--rank", "4", "--for", messages, "--out", tmp_path / "tuned")
    assert code == 0
    name = "model.layers.1.mlp.up_proj.weight"
    before, after = (smidgen.load(str(tmp_path / each)).weight(name) for each in ("cut", "tuned"))
    assert torch.equal(before == 0, after == 0) and not torch.equal(before, after)
    tune = ["finetune", str(cut), *QUICK, "--for", str(messages), "--apart", "--out", str(tmp_path / "apart"), "-q"]
    assert main(tune) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert "fills the weights that were pruned" in shown and not (tmp_path / "apart").exists()


@pytest.mark.parametrize(
    ("adapter", "words", "part"),
    [
        ("nothing", [], "There is no adapter at"),
        (".", [], "adapter_config.json"),
        ("apart", ["--max-memory", "1MB"], "allowed by --max-memory"),
    ],
)
def test_faults_are_said_without_a_traceback(adapter, words, part, folder, tmp_path, capsys):
    (tmp_path / "apart").mkdir()
    (tmp_path / "apart" / "adapter_config.json").write_text("{}")
    line = ["merge", str(tmp_path / adapter), "--into", str(folder), "--out", str(tmp_path / "out"), "-q", *words]
    assert main(line) == 2
    shown = capsys.readouterr()
    assert part in " ".join(shown.err.split()) and "Traceback" not in shown.err
