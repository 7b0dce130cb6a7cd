"""What reads images is shrunk by name, and both files are written where llama.cpp can hold them."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from smidgen import verbs
from smidgen.cli.main import main
from smidgen.errors import InvalidInput, ReferenceNotFound

TINY = runpy.run_path(str(Path(__file__).parents[1] / "tiny_mississippi.py"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("eyes")
    TINY["write"](folder / "model", "llama")
    (folder / "pictures").mkdir()
    for number, size in enumerate(((100, 60), (56, 56))):
        Image.effect_noise(size, 90).save(folder / "pictures" / f"{number}.png")
    return folder


def test_pruning_writes_both_files(place: Path, tmp_path: Path, capsys: Any) -> None:
    arguments = ["--structure", "neuron", "--criterion", "l2", "--keep", "32", "--images", str(place / "pictures")]
    out = tmp_path / "small"
    assert (
        main(["prune", str(place / "model"), *arguments, "--windows", "4", "--gguf", "--out", str(out), "--json"]) == 0
    )
    made = json.loads(capsys.readouterr().out)
    assert made["step"]["part"] == "vision"
    assert {"model.gguf", "mmproj-model.gguf", "model.safetensors"} <= {path.name for path in out.iterdir()}


def test_what_cannot_be_is_refused(place: Path) -> None:
    model, pictures = str(place / "model"), place / "pictures"
    with pytest.raises(InvalidInput, match="no width that could be cut"):
        verbs.prune(model, structure="width", keep=32, images=pictures)
    with pytest.raises(ReferenceNotFound, match="no file or folder"):
        verbs.prune(model, structure="neuron", keep=32, images=place / "nowhere")
    with pytest.raises(InvalidInput, match="holds no images"):
        verbs.prune(model, structure="neuron", keep=32, images=place / "model")
    with pytest.raises(InvalidInput, match="stored in one format"):
        verbs.quantize(model, fit="1MB", images=pictures)
    with pytest.raises(InvalidInput, match="neither embedding nor head"):
        verbs.quantize(model, format="q8_0", head_format="q4_0", images=pictures)


def test_a_model_that_looks_twice_is_refused_before_any_work(tmp_path: Path, capsys: Any) -> None:
    TINY["write"](tmp_path / "twice", "mistral")
    Image.effect_noise((56, 56), 90).save(tmp_path / "red.png")
    images = ["--images", str(tmp_path / "red.png"), "--windows", "1"]
    for arguments in (
        ["quantize", str(tmp_path / "twice"), "--format", "q8_0", *images, "--out", str(tmp_path / "x.gguf")],
        ["prune", str(tmp_path / "twice"), "--structure", "neuron", "--keep", "32", *images, "--gguf", "--out",
         str(tmp_path / "x")],
    ):  # fmt: skip
        assert main([*arguments, "--quiet"]) == 2
        assert "looks at an image twice" in capsys.readouterr().err
    assert not (tmp_path / "x.gguf").exists() and not (tmp_path / "x").exists()
    folder = ["quantize", str(tmp_path / "twice"), "--format", "q8_0", *images, "--out", str(tmp_path / "kept")]
    assert main([*folder, "--quiet"]) == 0
    assert {"packed.safetensors", "vision.safetensors"} <= {path.name for path in (tmp_path / "kept").iterdir()}
