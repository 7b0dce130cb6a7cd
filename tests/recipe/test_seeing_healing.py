"""The language model of every family that sees is healed and tuned on text, what reads images on images."""

from __future__ import annotations

import inspect
import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from smidgen import verbs
from smidgen.cli.main import main
from smidgen.errors import Unsupported
from smidgen.export import safetensors
from smidgen.models.load import load

HERE = Path(__file__).parents[1]
MISSISSIPPI, PHI = (runpy.run_path(str(HERE / name)) for name in ("tiny_mississippi.py", "tiny_phi3v.py"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, published_tokenizer: Any) -> Path:
    folder = tmp_path_factory.mktemp("healing")
    for name in ("h2ovl", "internvl"):
        MISSISSIPPI["write"](folder / name, "llama")
    path = folder / "internvl" / "config.json"
    published = json.loads(path.read_text()) | {"architectures": ["InternVLChatModel"], "model_type": "internvl_chat"}
    path.write_text(json.dumps(published))
    PHI["write"](folder / "phi3v", published_tokenizer("phi", 512, begins=True))
    (folder / "text.txt").write_text(inspect.getsource(json.decoder))
    Image.effect_noise((300, 200), 90).save(folder / "picture.png")
    return folder


def same(before: Any, after: Any) -> bool:
    one, two = before.state_dict(), after.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("family", ["h2ovl", "internvl", "phi3v"])
def test_the_language_model_learns_and_goes_on_seeing(place: Path, family: str, tmp_path: Path) -> None:
    source = load(str(place / family))
    cut = verbs.prune(source, structure="layer", criterion="l2", keep=1, windows=1, data=place / "text.txt")
    options: dict[str, Any] = {"data": place / "text.txt", "batch_size": 2, "learning_rate": 1e-3}
    healed = verbs.distill(cut, source, steps=2, **options)
    tuned = verbs.finetune(healed, objective="unsupervised", epochs=0.02, length=64, **options)
    assert source.vision is not None and tuned.vision is not None and healed.vision is not None
    assert not same(cut.module, healed.module) and not same(healed.module, tuned.module)
    assert same(source.vision.module, tuned.vision.module)
    safetensors.write(tuned, tmp_path / "tuned", dtype="float32")
    again = load(str(tmp_path / "tuned"))
    assert type(again.vision and again.vision.family) is type(source.vision.family) and same(tuned.module, again.module)


@pytest.mark.parametrize("family", ["h2ovl", "phi3v"])
def test_what_reads_images_learns_from_the_source(place: Path, family: str, tmp_path: Path, capsys: Any) -> None:
    picture = str(place / "picture.png")
    source = load(str(place / family))
    small = verbs.prune(source, images=picture, windows=6, structure="neuron", criterion="l2", keep=32)
    safetensors.write(small, tmp_path / "cut", dtype="float32")
    words = ["distill", str(tmp_path / "cut"), "--teacher", str(place / family), "--images", picture, "--json"]
    assert main([*words, "--steps", "4", "--batch-size", "2", "--out", str(tmp_path / "healed")]) == 0
    assert json.loads(capsys.readouterr().out)["step"]["part"] == "vision"
    cut, healed = load(str(tmp_path / "cut")), load(str(tmp_path / "healed"))
    assert cut.vision is not None and healed.vision is not None
    tower = source.vision.family.tower if source.vision else ""
    assert not same(cut.vision.module.get_submodule(tower), healed.vision.module.get_submodule(tower))
    assert [step.operation for step in healed.lineage.steps] == ["prune", "distill"]


def test_a_model_of_texts_only_is_refused(place: Path, source: Path) -> None:
    with pytest.raises(Unsupported, match="reads no images"):
        verbs.distill(str(source), str(source), steps=2, images=place / "picture.png")
