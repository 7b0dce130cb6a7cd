"""What every family of models that read images promises, tried on a tiny model of each."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from smidgen import registry
from smidgen.export import packed, safetensors
from smidgen.models import families
from smidgen.models.load import read_folder
from smidgen.models.model import Model
from smidgen.models.packed import read_folder as read_packed
from smidgen.models.vision import PLACE, Shown, embedded, seen
from smidgen.models.vision.family import SeeingFamily
from smidgen.shrink.prune.prune import Prune
from smidgen.shrink.quantize.quantize import Quantize

PHI = runpy.run_path(str(Path(__file__).parents[1] / "tiny_phi3v.py"))
MISSISSIPPI = runpy.run_path(str(Path(__file__).parents[1] / "tiny_mississippi.py"))
CHATML = (
    "{% for m in messages %}{{ '<|prompt|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|answer|>' }}{% endif %}"
)


def mississippi(folder: Path, _: Any) -> None:
    MISSISSIPPI["write"](folder, "mistral")


def internvl(folder: Path, _: Any) -> None:
    """An InternVL as published: the same parts under the same names, its template in the tokenizer's files."""
    MISSISSIPPI["write"](folder, "llama")
    config = json.loads((folder / "config.json").read_text())
    for name in ("use_msac", "max_dynamic_patch", "template"):
        del config[name]
    config |= {"architectures": ["InternVLChatModel"], "model_type": "internvl_chat"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "chat_template.jinja").write_text(CHATML)


def phi(folder: Path, published_tokenizer: Any) -> None:
    PHI["write"](folder, published_tokenizer("phi", PHI["VOCABULARY"], begins=True))


CASES: dict[str, Callable[[Path, Any], None]] = {"h2ovl": mississippi, "internvl": internvl, "phi3v": phi}
every_family = pytest.mark.parametrize("name", CASES)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, published_tokenizer: Any) -> Any:
    """Make each case once: its folder and the model."""

    @cache
    def made(name: str) -> tuple[Path, Model]:
        folder = tmp_path_factory.mktemp(name) / "model"
        CASES[name](folder, published_tokenizer)
        return folder, read_folder(folder, torch.float32)

    return made


def noise(width: int, height: int) -> Image.Image:
    return Image.merge("RGB", [Image.effect_noise((width, height), 90) for _ in range(3)])


@torch.no_grad()
def logits_of(model: Model, images: list[Image.Image]) -> torch.Tensor:
    vision: Any = model.vision
    pictures = vision.family.pictures(vision, images)
    ids = vision.family.layout(vision, model.tokenizer, [Shown("user", (*pictures, "What is it?"))])
    assert ids.count(PLACE) == sum(picture.places for picture in pictures) == len(seen(model, pictures))
    return model.module(inputs_embeds=embedded(model, ids, seen(model, pictures))).logits[0]


def test_every_family_is_tried() -> None:
    package = "smidgen.models.families"
    found = {name for name in registry.names(package) if issubclass(registry.find(package, name), SeeingFamily)}
    assert found == set(CASES)


@every_family
def test_the_language_model_is_of_a_family_of_its_own(make: Any, name: str) -> None:
    folder, model = make(name)
    assert type(model.vision.family).__name__.lower() == name
    assert not isinstance(model.family, SeeingFamily)
    assert families.seeing(json.loads((folder / "config.json").read_text())) is not None
    assert model.vision.family.reads_gguf({"general.architecture": "clip"}) is False


@every_family
def test_it_is_written_and_read_under_its_published_names(make: Any, name: str, tmp_path: Path) -> None:
    folder, model = make(name)
    safetensors.write(model, tmp_path / "again", dtype="float32")
    before = load_file(folder / "model.safetensors")
    after = load_file(tmp_path / "again" / "model.safetensors")
    assert set(before) == set(after) and all(torch.equal(before[key], after[key]) for key in before)
    again, images = read_folder(tmp_path / "again", torch.float32), [noise(100, 60), noise(56, 56)]
    torch.testing.assert_close(logits_of(again, images), logits_of(model, images), atol=1e-5, rtol=1e-5)


@every_family
def test_its_language_model_is_shrunk_and_it_goes_on_seeing(make: Any, name: str, tmp_path: Path) -> None:
    _, model = make(name)
    ids, images = torch.randint(3, 250, (2, 32), generator=torch.Generator().manual_seed(0)), [noise(100, 60)]
    cut = model
    for operation in (
        Prune("layer", "l2", keep=1),
        Prune("neuron", "wanda", keep=64),
        Prune("head", "activation", keep=2, whole_groups=True),
        Prune("width", "activation", keep=32),
    ):
        cut = operation.apply(cut, ids)
        assert cut.vision is not None and torch.isfinite(logits_of(cut, images)).all()
    safetensors.write(cut, tmp_path / "cut", dtype="float32")
    again = read_folder(tmp_path / "cut", torch.float32)
    torch.testing.assert_close(logits_of(again, images), logits_of(cut, images), atol=1e-5, rtol=1e-5)
    assert again.parameter_count() == cut.parameter_count() < model.parameter_count()
    small = Quantize(default="integer:bits=8,group=16").apply(cut, ids)
    packed.write(small, tmp_path / "small", dtype="float32")
    held = read_packed(tmp_path / "small", torch.float32, hold=True)
    torch.testing.assert_close(logits_of(held, images), logits_of(small, images), atol=1e-4, rtol=1e-4)
