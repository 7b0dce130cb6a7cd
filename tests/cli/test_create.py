"""Creating models from Modelfiles, and what show, cp and rm make of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smidgen.cli.main import main
from smidgen.models.checkpoint import gguf
from smidgen.models.store import Store

MODELFILE = '''FROM {source}
SYSTEM """You are a parrot.
Say little."""
PARAMETER temperature 0
PARAMETER stop "<a>"
PARAMETER stop "<b>"
TEMPLATE "{{{{ .System }}}}|{{{{ .Prompt }}}}|"
MESSAGE user Hello?
MESSAGE assistant Hello.
LICENSE "Do as you like."
'''


def run_json(capsys: Any, *words: str) -> tuple[int, dict[str, Any]]:
    code = main([*words, "--json", "--quiet"])
    return code, json.loads(capsys.readouterr().out)


@pytest.fixture
def modelfile(tiny_gguf: Path, tmp_path: Path) -> Path:
    path = tmp_path / "Modelfile"
    path.write_text(MODELFILE.format(source=tiny_gguf), encoding="utf-8")
    return path


def test_a_model_keeps_what_its_modelfile_says(modelfile: Path, tiny_gguf: Path, capsys: Any) -> None:
    code, made = run_json(capsys, "create", "Parrot", "-f", str(modelfile))
    assert code == 0 and made["name"] == "parrot:latest"
    facts = made["facts"]
    assert facts["system"] == "You are a parrot.\nSay little." and facts["license"] == ["Do as you like."]
    assert facts["parameters"] == {"temperature": 0, "stop": ["<a>", "<b>"]}
    assert facts["messages"] == [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hello."}]
    (path,) = [path for name, path in Store().resolve("parrot").paths.items() if name == "model.gguf"]
    assert path.read_bytes() == tiny_gguf.read_bytes()
    assert main(["show", "parrot", "--system"]) == 0
    assert capsys.readouterr().out == "You are a parrot.\nSay little.\n"
    assert main(["show", "parrot", "--parameters"]) == 0
    assert capsys.readouterr().out.split() == ["stop", "<a>", "stop", "<b>", "temperature", "0"]
    assert main(["show", "parrot", "--template"]) == 0
    assert capsys.readouterr().out == "{{ .System }}|{{ .Prompt }}|\n"
    assert main(["show", "parrot", "--license"]) == 0
    assert capsys.readouterr().out == "Do as you like.\n"


def test_the_modelfile_that_show_prints_makes_the_same_again(modelfile: Path, tmp_path: Path, capsys: Any) -> None:
    _, made = run_json(capsys, "create", "parrot", "-f", str(modelfile))
    assert main(["show", "parrot", "--modelfile"]) == 0
    again = tmp_path / "again"
    again.write_text(capsys.readouterr().out, encoding="utf-8")
    _, second = run_json(capsys, "create", "parrot2", "-f", str(again))
    assert second["digest"] == made["digest"]
    for name in ("system", "parameters", "messages", "template", "license", "modelfile"):
        assert second["facts"][name] == made["facts"][name]


def test_what_a_new_modelfile_does_not_say_is_handed_down(modelfile: Path, tmp_path: Path, capsys: Any) -> None:
    run_json(capsys, "create", "parrot", "-f", str(modelfile))
    child = tmp_path / "child"
    child.write_text("FROM parrot\nSYSTEM Shout.\nPARAMETER top_k 7\nPARAMETER stop <c>\n", encoding="utf-8")
    code, made = run_json(capsys, "create", "child", "-f", str(child))
    facts = made["facts"]
    assert code == 0 and facts["system"] == "Shout." and facts["template"] == "{{ .System }}|{{ .Prompt }}|"
    assert facts["parameters"] == {"temperature": 0, "stop": ["<c>"], "top_k": 7}
    assert facts["parent"] == "parrot:latest" and len(facts["messages"]) == 2


def test_a_folder_of_safetensors_becomes_a_gguf_and_is_quantized(tiny_folder: Path, tmp_path: Path, capsys: Any):
    code, made = run_json(capsys, "create", "tiny", "-f", str(_from(tmp_path / "M", tiny_folder)), "-q", "Q8_0")
    assert code == 0
    file = gguf.read(Store().resolve("tiny").folder / "model.gguf")
    assert {each.format for each in file.tensors.values()} == {"Q8_0", "F32"}
    assert made["facts"]["licence"] == "mit" and made["facts"]["base_model"] == "org/tiny"
    _, shown = run_json(capsys, "show", "tiny", "-v")
    assert shown["lineage"]["steps"][-1]["operation"] == "quantize"
    assert {each["type"] for each in shown["tensors"]} == {"Q8_0", "F32"}
    assert "general.architecture" in shown["metadata"]
    assert "Do as you like." in _text(capsys, "show", "tiny", "--license")


def test_a_preset_falls_back_where_its_blocks_do_not_divide_the_rows(tiny_gguf: Path, tmp_path: Path, capsys: Any):
    code, _ = run_json(capsys, "create", "tiny", "-f", str(_from(tmp_path / "M", tiny_gguf)), "-q", "q4_K_M")
    file = gguf.read(Store().resolve("tiny").folder / "model.gguf")
    assert code == 0 and {"Q5_0", "Q8_0"} <= {each.format for each in file.tensors.values()}


def test_cp_and_rm_of_several(modelfile: Path, capsys: Any) -> None:
    run_json(capsys, "create", "one", "-f", str(modelfile))
    assert run_json(capsys, "cp", "one", "two:v2")[1]["name"] == "two:v2"
    assert Store().resolve("two:v2").facts["system"] == Store().resolve("one").facts["system"]
    code, removed = run_json(capsys, "rm", "one", "two:v2")
    assert code == 0 and [each["name"] for each in removed["removed"]] == ["one:latest", "two:v2"]
    assert Store().names() == () and not list((Store().root / "blobs").iterdir())


@pytest.mark.parametrize(
    ("text", "words", "parts"),
    [
        ("FROM ./nothing.gguf", [], ["no file or folder"]),
        ("FROM nothing", [], ["no model 'nothing'"]),
        ("FROM {gguf}\nPARAMETER tempo 1", [], ["Line 2", "'tempo'"]),
        ("FROM {gguf}\nTEMPLATE {{{{ define }}}}", [], ["'define'"]),
        ("FROM {gguf}\nADAPTER ./none.gguf", [], ["no adapter ./none.gguf"]),
        ("FROM {gguf}\nADAPTER {gguf}", [], ["and no adapter"]),
        ("FROM {gguf}", ["-q", "q9_9"], ["no type to quantize to 'q9_9'"]),
        ("SYSTEM x", [], ["no FROM"]),
    ],
)
def test_what_cannot_be_made_leaves_nothing(
    text: str, words: list[str], parts: list[str], tiny_gguf: Path, tmp_path: Path, capsys: Any
) -> None:
    path = tmp_path / "Modelfile"
    path.write_text(text.format(gguf=tiny_gguf), encoding="utf-8")
    assert main(["create", "x", "-f", str(path), *words]) == 2
    shown = capsys.readouterr().err
    for part in parts:
        assert part in shown
    assert Store().names() == () and not [*Store().root.glob("blobs/*"), *Store().root.glob(".tmp-*")]


def test_a_missing_modelfile_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["create", "x"]) == 2
    assert "There is no Modelfile at Modelfile" in capsys.readouterr().err
    assert main(["create", "../x", "-f", "Modelfile"]) == 2


def test_one_thing_at_a_time_is_shown(tiny_gguf: Path, capsys: Any) -> None:
    assert main(["show", str(tiny_gguf), "--system", "--license"]) == 2
    assert "do not go together" in capsys.readouterr().err
    assert main(["show", str(tiny_gguf), "--system"]) == 2
    assert "brings no system" in capsys.readouterr().err
    assert _text(capsys, "show", str(tiny_gguf), "--template") == "{{ messages[0]['content'] }}\n"
    assert _text(capsys, "show", str(tiny_gguf), "--modelfile") == f"FROM {tiny_gguf}\n"


def _from(path: Path, source: Path) -> Path:
    path.write_text(f"FROM {source}\n", encoding="utf-8")
    return path


def _text(capsys: Any, *words: str) -> str:
    assert main([*words]) == 0
    text: str = capsys.readouterr().out
    return text
