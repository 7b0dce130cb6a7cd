import dataclasses
import json
import os

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import smidgen
from smidgen.cli import _step
from smidgen.cli.main import main
from smidgen.models.checkpoint import gguf
from smidgen.shrink.distill.distill import Distill
from smidgen.shrink.prune.criteria import names_for
from smidgen.shrink.prune.prune import Prune
from smidgen.shrink.quantize.quantize import Quantize

LAYERS = ["--structure", "layer", "--criterion", "block_influence", "--keep", "2", "--windows", "1"]
QUANTIZE = ["--format", "q4_0", "--windows", "1", "--solver", "nearest"]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def run_json(capsys, *words):
    code = main([*map(str, words), "--json", "--quiet"])
    shown = capsys.readouterr()
    assert shown.err == ""
    return code, json.loads(shown.out)


def test_prune_writes_a_folder_that_reloads_anywhere(tiny_folder, tmp_path, capsys):
    out = tmp_path / "made" / "smaller"
    code, made = run_json(capsys, "prune", tiny_folder, *LAYERS, "--out", out, "--gguf")
    assert code == 0 and made["step"]["operation"] == "prune" and made["parameters"] < 136_640
    assert {"LICENSE", "README.md", "config.json", "model.gguf", "model.safetensors", "smidgen.json"} <= {*names(out)}
    assert "license: mit" in (out / "README.md").read_text() and names(out.parent) == ["smaller"]
    plain = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    ours = smidgen.load(str(out))
    ids = torch.tensor([AutoTokenizer.from_pretrained(out)("some text").input_ids])
    assert torch.allclose(plain(ids).logits, ours.module(ids).logits)
    assert ours.lineage.kept_layers is not None and len(ours.lineage.kept_layers) == 2
    assert gguf.read(out / "model.gguf").metadata["llama.block_count"] == 2


def test_quantize_writes_a_file_or_a_folder(tiny_folder, tmp_path, capsys):
    code, made = run_json(
        capsys, "quantize", tiny_folder, *QUANTIZE, "--embedding-format", "Q8_0", "--out", tmp_path / "a.gguf"
    )
    stored = {tensor.name: tensor.format for tensor in gguf.read(tmp_path / "a.gguf").tensors.values()}
    assert code == 0 and stored["token_embd.weight"] == "Q8_0" and stored["blk.0.ffn_up.weight"] == "Q4_0"
    assert made["bytes"] == (tmp_path / "a.gguf").stat().st_size
    code, made = run_json(
        capsys,
        "quantize",
        tiny_folder,
        "--fit",
        "100KB",
        "--windows",
        "1",
        "--solver",
        "nearest",
        "--out",
        tmp_path / "b",
    )
    assert code == 0 and made["bytes"] <= 100_000
    assert names(tmp_path / "b") == [
        "LICENSE",
        "Modelfile",
        "README.md",
        "model.gguf",
        "smidgen.json",
        "source-README.md",
    ]
    assert main(["show", str(tmp_path / "b")]) == 0
    assert "quantize" in capsys.readouterr().out


def test_a_size_that_formats_cannot_reach_exits_3_and_writes_nothing(tiny_folder, tmp_path, capsys):
    words = ["quantize", str(tiny_folder), "--fit", "1KB", "--windows", "1", "--out", str(tmp_path / "x.gguf"), "-q"]
    assert main(words) == 3
    assert "the smallest file is" in capsys.readouterr().err and names(tmp_path) == []


def test_distill_teaches_and_forgets_its_checkpoints(tiny_folder, tmp_path, smidgen_home, capsys):
    run_json(capsys, "prune", tiny_folder, *LAYERS, "--out", tmp_path / "student")
    words = ["--teacher", tiny_folder, "--steps", "2", "--batch-size", "2", "--loss", "soft_output=1"]
    code, made = run_json(capsys, "distill", tmp_path / "student", *words, "--out", tmp_path / "healed")
    assert code == 0 and made["step"]["losses"] == {"soft_output": 1.0} and made["step"]["batch_size"] == 2
    steps = smidgen.load(str(tmp_path / "healed")).lineage.steps
    assert [step.operation for step in steps] == ["prune", "distill"]
    assert list(smidgen_home.glob("training/*")) == []


def test_a_refused_training_leaves_nothing_behind(tiny_folder, tmp_path, smidgen_home, capsys):
    words = ["distill", tiny_folder, "--teacher", tiny_folder, "--steps", "1", "--trainable", "nrms"]
    assert main([*map(str, words), "--out", str(tmp_path / "out"), "--quiet"]) == 2
    assert "norms" in capsys.readouterr().err
    assert names(tmp_path) == [] and list(smidgen_home.glob("training/*")) == []


def test_a_person_sees_a_table(tiny_folder, tmp_path, capsys):
    assert main(["prune", str(tiny_folder), *LAYERS, "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr()
    assert "136,640" in shown.out and "reading statistics" in shown.err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["prune", "{model}", "--structur", "layer"], "--structure"),
        (["prune", "{model}", "--structure", "layr", *LAYERS[2:]], "Did you mean 'layer'"),
        (["prune", "{model}", "--structure", "layer", "--criterion", "use", "--keep", "2"], "cannot score"),
        (["prune", "{model}", *LAYERS, "--keep", "9"], "cannot be kept"),
        (["prune", "{model}", *LAYERS, "--for", "{model}/nothing.txt"], "There is no file"),
        (["prune", "{model}s", *LAYERS], "Did you mean"),
        (["prune", "{model}", *LAYERS, "--device", "cuda"], "runs on the CPU"),
        (["prune", "{model}", *LAYERS, "--max-memory", "1MB"], "allowed by --max-memory"),
        (["prune", "{model}", *LAYERS, "--dry-run", "--max-memory", "1MB"], "allowed by --max-memory"),
        (["quantize", "{model}", "--format", "q4_o"], "Did you mean"),
        (["quantize", "{model}", "--formt", "q4_0"], "--format"),
        (["quantize", "{model}", "--format", "q4_k"], "Take one of"),
        (["quantize", "{model}", *QUANTIZE, "--solver", "gtpq"], "Did you mean 'gptq'"),
        (["quantize", "{model}"], "one of --format, --fit and --memory"),
        (["quantize", "{model}", "--fit", "80"], "no unit"),
        (["quantize", "nothing", "--fit", "80"], "no unit"),
        (["quantize", "nothing", *QUANTIZE, "--static-activations"], "keeps no scales"),
        (["quantize", "nothing", *QUANTIZE, "--search", "3"], "--search needs a size"),
        (["quantize", "nothing", *QUANTIZE, "--damping", "-1"], "above 0"),
        (["quantize", "nothing", *QUANTIZE, "--windows", "0"], "--windows"),
        (["distill", "nothing", "--teacher", "{model}", "--steps", "0"], "at least 1"),
        (["distill", "nothing", "--teacher", "{model}", "--steps", "1", "--cached", "--teacher-options", "j=1"], "'j'"),
        (["finetune", "nothing", "--steps", "0"], "at least 1"),
        (["finetune", "nothing", "--learning-rate", "0"], "above 0"),
        (["distill", "{model}", "--teacher", "{model}", "--step", "3"], "--steps"),
        (["distill", "{model}", "--teacher", "{model}", "--steps", "1", "--loss", "soft=1"], "soft_output"),
        (["distill", "{model}", "--teacher", "{model}", "--steps", "1", "--loss", "hidden=x"], "weight above 0"),
        (["distill", "{model}", "--teacher", "{model}s", "--steps", "1"], "Did you mean"),
        (["distill", "{model}", "--teacher", "{model}", "--steps", "1", "--schedule", "cosin"], "cosine"),
    ],
)
def test_typos_exit_2_before_anything_is_written(words, part, tiny_folder, tmp_path, capsys):
    filled = [word.format(model=tiny_folder) for word in words]
    assert main([*filled, "--out", str(tmp_path / "out"), "--quiet"]) == 2
    error = capsys.readouterr().err
    assert part in error and "Traceback" not in error and names(tmp_path) == []


@pytest.mark.parametrize("command", [["prune", *LAYERS], ["quantize", *QUANTIZE]])
def test_an_output_that_cannot_be_is_refused_before_the_model_is_sought(command, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    for out, part in (
        ("file/out", "not a directory"),
        ("file", "a folder is to be written"),
        ("folder", "smidgen did not write it"),
        ("", "names nothing"),
    ):
        place = str(tmp_path / out) if out else ""
        for force in ([], ["--force"]):
            assert main([command[0], "no-such-model", *command[1:], "--out", place, *force]) == 2
            assert part in capsys.readouterr().err.lower()
    assert (tmp_path / "file").read_text() == (tmp_path / "folder" / "notes.txt").read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path, capsys):
    tmp_path.chmod(0o500)
    assert main(["prune", "no-such-model", *LAYERS, "--out", str(tmp_path / "out")]) == 2
    assert "permission" in capsys.readouterr().err.lower()


def test_an_earlier_result_is_replaced_only_when_forced(tiny_folder, tmp_path, capsys):
    words = ["quantize", str(tiny_folder), *QUANTIZE, "--quiet", "--out"]
    for out in (tmp_path / "out", tmp_path / "out.gguf"):
        assert main([*words, str(out)]) == 0
        assert main([*words, str(out)]) == 2
        assert "--force" in capsys.readouterr().err
        assert main([*words, str(out), "--force"]) == 0
    assert names(tmp_path) == ["out", "out.gguf"]


def test_a_file_is_no_place_for_pruned_weights(capsys):
    assert main(["prune", "no-such-model", *LAYERS, "--out", "x.gguf"]) == 2
    assert "--gguf" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "kind", "elsewhere"),
    [
        ("prune", Prune, {"chosen", "allocation"}),
        ("quantize", Quantize, {"formats", "default"}),
        ("distill", Distill, {"losses", "teacher", "seed"}),
    ],
)
def test_every_field_of_an_operation_is_an_option(command, kind, elsewhere, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")  # in narrow terminals long names are cut short
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    fields = {field.name for field in dataclasses.fields(kind)} - elsewhere
    assert all(f"--{name.replace('_', '-')}" in shown for name in fields)
    assert fields <= set(_step.field_meanings(kind))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--loss", "soft_output=1,directon=reverse"], "direction"),
        (["--loss", "hidden=much"], "no weight above 0"),
        (["--loss", "gradients=1"], "gradient"),
        (["--layer-map", "0-1"], "0=1,1=3"),
        (["--teacher-options", "k"], "option=value"),
        (["--cached", "--on-policy"], "cannot be cached"),
    ],
)
def test_what_distill_is_told_wrongly_is_said_before_any_work(words, message, capsys):
    assert main(["distill", "no-such-model", "--teacher", "x", "--steps", "1", "--out", "y", *words]) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")


def test_every_criterion_is_compared_without_writing_anything(tiny_folder, tmp_path, capsys):
    words = ["prune", tiny_folder, "--structure", "neuron", "--keep", "64", "--windows", "1"]
    code, shown = run_json(capsys, *words, "--criterion", "all", "--dry-run")
    assert code == 0 and shown["cut"]["keep"] == 64
    found = shown["criteria"]
    assert {each["criterion"] for each in found} == set(names_for("neuron"))
    assert all(each["measured_kl"] > 0 and each["predicted_kl"] > 0 for each in found)
    assert len({each["parameters"] for each in found}) == 1
    assert main([*map(str, words), "--dry-run", "-q"]) == 0
    table = capsys.readouterr().out
    assert "wanda" in table and "measured KL" in table and "taylor" not in table
    assert main([*map(str, words), "--criterion", "all", "--out", str(tmp_path / "x")]) == 2
    assert "--dry-run" in capsys.readouterr().err
    assert main([*map(str, words), "--criterion", "use", "--dry-run"]) == 2
    assert "take one of" in capsys.readouterr().err
    assert main([*map(str, words)]) == 2
    assert "--out" in capsys.readouterr().err and names(tmp_path) == []


def test_single_weights_are_said_to_save_nothing(tiny_folder, tmp_path, capsys):
    out = tmp_path / "sparse"
    words = ["--structure", "synapse", "--criterion", "l1", "--windows", "1", "--out", str(out)]
    assert main(["prune", str(tiny_folder), *words, "-q"]) == 0
    shown = capsys.readouterr().out
    assert "same size and same speed unless stored sparse" in " ".join(shown.split())
    assert "same size and same speed unless stored sparse" in (out / "README.md").read_text()
    assert "same size" in json.loads((out / "smidgen.json").read_text())["steps"][-1]["note"]


def test_an_uneven_gguf_is_refused_before_any_work_where_nothing_could_run_it(tmp_path, tiny_model, capsys):
    from smidgen.export import safetensors

    safetensors.write(tiny_model("qwen2"), tmp_path / "qwen")
    words = [
        "--structure",
        "neuron",
        "--criterion",
        "taylor",
        "--keep",
        "64",
        "--uneven",
        "--windows",
        "1",
        "--gguf",
        "-q",
    ]
    assert main(["prune", str(tmp_path / "qwen"), *words, "--out", str(tmp_path / "made")]) == 2
    assert "all alike" in " ".join(capsys.readouterr().err.split()) and names(tmp_path) == ["qwen"]
    safetensors.write(tiny_model(), tmp_path / "llama")
    assert main(["prune", str(tmp_path / "llama"), *words, "--out", str(tmp_path / "made")]) == 0
    assert gguf.read(tmp_path / "made" / "model.gguf").metadata["general.architecture"] == "deci"
    uneven = smidgen.load(str(tmp_path / "made"))
    assert len({block.neurons for block in uneven.anatomy.blocks}) > 1
