import json
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

import smidgen
from smidgen.cli.main import main
from smidgen.errors import InvalidInput, RecipeError
from smidgen.export import gguf, safetensors
from smidgen.models.checkpoint import gguf as gguf_file
from smidgen.shrink.finetune.adapters import Adapter

QUICK = ["--steps", "4", "--batch-size", "2", "--length", "64", "--learning-rate", "0.01"]
LORA = ["--method", "lora", "--rank", "4", *QUICK]


@pytest.fixture(scope="module")
def model(tiny_model, published_tokenizer):
    return replace(tiny_model(initializer_range=0.08), tokenizer=published_tokenizer("smollm", 400))


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "tiny"
    safetensors.write(model, path, dtype="float32")
    (path / "LICENSE").write_text("Do as you like.\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def messages(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "messages.jsonl"
    words = "claim your prize of cash money now or never again", "see you at home later tonight my dear friend"
    rows = [{"text": f"{n} {words[n % 2]} {n * 7919}", "label": ("spam", "ham")[n % 2]} for n in range(200)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def run_json(capsys, *words):
    code = main([*map(str, words), "--json", "--quiet"])
    shown = capsys.readouterr()
    assert shown.err == "", shown.err
    return code, json.loads(shown.out)


def test_finetune_writes_a_folder_and_records_both_curves(folder, messages, tmp_path, smidgen_home, capsys):
    words = ["--for", messages, "--option", "instruction=Spam or ham?", "--gguf", "--freeze", "*norm*"]
    code, made = run_json(capsys, "finetune", folder, *QUICK, *words, "--out", tmp_path / "tuned")
    assert code == 0 and made["step"]["options"] == {"instruction": "Spam or ham?"}
    assert {"training", "held_out", "gap", "stopped_early", "best_step", "sweep"} <= made["curves"].keys()
    assert made["step"]["held_out_best"] < made["step"]["held_out_before"]
    tuned, before = smidgen.load(str(tmp_path / "tuned")), smidgen.load(str(folder))
    assert tuned.lineage.steps[-1].parameters["freeze"] == ["*norm*"]
    for name, value in before.module.named_parameters():
        assert torch.allclose(value, tuned.weight(name), atol=1e-2) == ("norm" in name), name
    AutoModelForCausalLM.from_pretrained(tmp_path / "tuned")
    assert gguf_file.read(tmp_path / "tuned" / "model.gguf").metadata["llama.block_count"] == 3
    assert (tmp_path / "tuned" / "LICENSE").exists() and list((smidgen_home / "training").iterdir()) == []


def test_an_adapter_is_written_apart(folder, model, messages, tmp_path, capsys):
    code, made = run_json(capsys, "finetune", folder, *LORA, "--for", messages, "--apart", "--out", tmp_path / "apart")
    assert code == 0 and made["parameters"] < 0.3 * model.parameter_count()
    files = {"LICENSE", "README.md", "adapter.gguf", "adapter_config.json", "adapter_model.safetensors", "smidgen.json"}
    assert {path.name for path in (tmp_path / "apart").iterdir()} == files
    assert Adapter.read(tmp_path / "apart").rank == 4
    assert main(["finetune", str(folder), *LORA, "--for", str(messages), "--out", str(tmp_path / "apart")]) == 2
    assert "--force" in capsys.readouterr().err


def test_qlora_trains_on_the_file_that_quantize_wrote(folder, messages, tmp_path, capsys):
    small = tmp_path / "small.gguf"
    run_json(capsys, "quantize", folder, "--format", "q8_0", "--windows", "1", "--solver", "nearest", "--out", small)
    words = ["--method", "qlora", "--rank", "4", *QUICK, "--for", messages]
    code, made = run_json(capsys, "finetune", small, *words, "--apart", "--out", tmp_path / "apart")
    assert code == 0 and gguf_file.read(tmp_path / "apart" / "adapter.gguf").metadata["adapter.type"] == "lora"
    assert made["step"]["method"] == "qlora"
    assert main(["finetune", str(folder), *map(str, words), "--out", str(tmp_path / "x"), "-q"]) == 2
    assert "quantized base" in capsys.readouterr().err


def test_a_person_sees_what_the_held_out_loss_did(folder, messages, tmp_path, capsys):
    words = ["finetune", str(folder), "--method", "lora", "--rank", "2", "--epochs", "1", "--length", "64"]
    assert main([*words, "--for", str(messages), "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr()
    assert "held-out loss" in shown.out and "found by trials" in shown.out
    assert "trying the learning rate" in shown.err and "fine-tuning" in shown.err


def test_a_command_that_was_stopped_goes_on(folder, messages, tmp_path, smidgen_home, monkeypatch, capsys):
    from smidgen.shrink.training import loop

    report, seen = loop._report, []

    def stop(run, checkpoints, progress):
        report(run, checkpoints, progress)
        seen.append(run.done)
        if len(seen) == 2:
            checkpoints.save(run.done, run.weights, run.optimizer, run.watch)
            raise KeyboardInterrupt

    words = ["finetune", str(folder), *LORA, "--for", str(messages), "--quiet", "--out"]
    monkeypatch.setattr(loop, "_report", stop)
    assert main([*words, str(tmp_path / "one")]) == 130
    capsys.readouterr()
    assert len(list((smidgen_home / "training").iterdir())) == 1 and not (tmp_path / "one").exists()
    assert main([*words, str(tmp_path / "one")]) == 0 and seen == [1, 2, 3, 4]
    monkeypatch.setattr(loop, "_report", report)
    assert main([*words, str(tmp_path / "two")]) == 0
    one, two = (smidgen.load(str(tmp_path / name)).module.state_dict() for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--objectiv", "supervised"], "--objective"),
        (["--objective", "supervized"], "Did you mean 'supervised'"),
        (["--method", "lorra"], "Did you mean 'lora'"),
        (["--option", "instructio=x"], "'instruction'"),
        (["--option", "instruction"], "has no value"),
        (["--objective", "self_supervised", "--option", "share=many"], "valid number"),
        (["--objective", "self_supervised", "--option", "task=spam"], "'span'"),
        (["--apart"], "--method lora"),
        (["--method", "lora", "--apart", "--gguf"], "--gguf writes a whole model"),
        (["--steps", "2", "--epochs", "1"], "not both"),
        (["--freeze", "nothing"], "freezes nothing"),
        (["--rounding", "q4_o"], "q4_0"),
        (["--device", "cuda"], "runs on the CPU"),
        (["--max-memory", "1MB"], "allowed by --max-memory"),
        (["--for", "nothing.jsonl"], "There is no file"),
    ],
)
def test_faults_are_said_without_a_traceback(words, part, folder, messages, tmp_path, capsys):
    data = [] if "--for" in words else ["--for", str(messages)]
    quick = [] if "--steps" in words else QUICK
    assert main(["finetune", str(folder), *quick, *data, *words, "--out", str(tmp_path / "out"), "-q"]) == 2
    shown = capsys.readouterr()
    assert part in " ".join(shown.err.split()) and "Traceback" not in shown.err
    assert not (tmp_path / "out").exists()


def test_plain_text_has_no_answers_to_learn(folder, tmp_path, capsys):
    assert main(["finetune", str(folder), *QUICK, "--out", str(tmp_path / "out"), "-q"]) == 2
    assert "--objective unsupervised" in " ".join(capsys.readouterr().err.split())


def test_the_verb_trains_loaded_models_and_named_ones(model, folder, messages, tmp_path):
    quick = {"steps": 4, "batch_size": 2, "length": 64, "learning_rate": 1e-2}
    one = smidgen.finetune(model, data=messages, method="lora", rank=4, apart=tmp_path / "apart", **quick)
    two = smidgen.finetune(str(folder), data=messages, method="lora", rank=4, **quick)
    state = two.module.state_dict()
    assert all(torch.allclose(value, state[name], atol=1e-6) for name, value in one.module.state_dict().items())
    assert torch.equal(
        Adapter.read(tmp_path / "apart").merged(model).weight("lm_head.weight"), one.weight("lm_head.weight")
    )
    text = smidgen.finetune(model, objective="unsupervised", **quick)
    assert text.lineage.steps[-1].parameters["objective"] == "unsupervised"
    gguf.write(model, tmp_path / "tiny.gguf")
    with pytest.raises(InvalidInput, match="quantized base"):
        smidgen.finetune(str(tmp_path / "tiny.gguf"), data=messages, method="qlora", **quick)
    with pytest.raises(InvalidInput, match="leaves no adapter"):
        smidgen.finetune(model, data=messages, apart=tmp_path, **quick)
    with pytest.raises(RecipeError, match="'method'"):
        smidgen.finetune(model, data=messages, methd="lora")
