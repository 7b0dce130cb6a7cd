"""Phi-3 vision's tower is shrunk by the passes that shrink any model, and given up is what nothing reads of it."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from smidgen.export import packed, safetensors
from smidgen.models.load import read_folder
from smidgen.models.model import Model
from smidgen.models.packed import read_folder as read_packed
from smidgen.models.vision import seen, tower
from smidgen.shrink.prune.prune import Prune
from smidgen.shrink.quantize.quantize import Quantize

TINY = runpy.run_path(str(Path(__file__).parents[2] / "tiny_phi3v.py"))
BLOCKS, TOWER_NAME = TINY["BLOCKS"], TINY["TOWER_NAME"]
UNREAD = f"{TOWER_NAME}encoder.layers.{BLOCKS - 1}."
IMAGES = [
    Image.fromarray(numpy.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=numpy.uint8))
    for seed, size in enumerate([(20, 50), (50, 30)])
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, published_tokenizer: Any) -> Model:
    folder = tmp_path_factory.mktemp("phi3v") / "model"
    return read_folder(TINY["write"](folder, published_tokenizer("phi", 512, begins=True)), torch.float32)


@pytest.fixture(scope="module")
def windows(model: Model) -> torch.Tensor:
    return tower.windows(model, IMAGES, 8)


def features_of(model: Model) -> torch.Tensor:
    vision = model.vision
    assert vision is not None
    return seen(model, vision.family.pictures(vision, IMAGES))


def test_a_tower_alone_is_what_is_read_of_it(model: Model, windows: torch.Tensor) -> None:
    taken, vision = tower.taken(model), model.vision
    assert vision is not None
    assert len(taken.anatomy.blocks) == BLOCKS - 1 and len(taken.anatomy.matrices()) == 6 * (BLOCKS - 1)
    weights = TINY["published_weights"]()
    kept = [value for name, value in weights.items() if name.startswith(TOWER_NAME) and not name.startswith(UNREAD)]
    assert taken.parameter_count() == sum(value.numel() for value in kept)
    pixels = vision.family.picture(vision, IMAGES[0]).pixels
    inside = vision.module.tower(pixels[1:8]).last_hidden_state  # the small whole oversteps what a pixel can be
    torch.testing.assert_close(taken.module(windows[1:8]).last_hidden_state, inside, atol=1e-4, rtol=1e-4)
    assert torch.equal(features_of(tower.put_back(model, taken)), features_of(model))


CUTS = {
    "neurons": (Prune("neuron", "wanda", keep=32), {"intermediate_size": 32}),
    "heads": (Prune("head", "activation", keep=3, whole_groups=True), {"num_attention_heads": 3, "head_dim": 8}),
    "layers": (Prune("layer", "block_influence", keep=1), {"num_hidden_layers": 1}),
}


@pytest.mark.parametrize("name", CUTS)
def test_parts_of_a_tower_go(model: Model, windows: torch.Tensor, name: str, tmp_path: Path) -> None:
    operation, counts = CUTS[name]
    smaller = tower.put_back(model, operation.apply(tower.taken(model), windows))
    found = features_of(smaller)
    assert 1e-4 < float((found - features_of(model)).norm() / features_of(model).norm()) < 0.8
    assert smaller.parameter_count() < model.parameter_count()
    safetensors.write(smaller, tmp_path / "out", dtype="float32")
    again = read_folder(tmp_path / "out", torch.float32)
    assert torch.equal(features_of(again), found) and again.parameter_count() == smaller.parameter_count()
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["vision_config"] == TINY["TOWER"] | {"num_hidden_layers": BLOCKS - 1} | counts
    assert config["img_processor"] == TINY["CONFIG"]["img_processor"] | {"layer_idx": -1}
    gone = (UNREAD, f"{TOWER_NAME}encoder.layers.1.") if name == "layers" else (UNREAD,)
    expected = {key for key in TINY["published_weights"]() if not key.startswith(gone)}
    assert load_file(tmp_path / "out" / "model.safetensors").keys() == expected
    # Once more, from what was written: nothing is unread any longer.
    twice = tower.put_back(again, tower.taken(again))
    assert twice.parameter_count() == again.parameter_count() and torch.equal(features_of(twice), found)


def test_a_quantised_tower_lies_packed_beside_the_language_model(
    model: Model, windows: torch.Tensor, tmp_path: Path
) -> None:
    small = tower.put_back(model, Quantize(default="q8_0", solver="nearest").apply(tower.taken(model), windows))
    vision = small.vision
    assert vision is not None
    assert len(vision.packed) == 6 * (BLOCKS - 1) and all("vision_model.encoder" in name for name in vision.packed)
    before, found = features_of(model), features_of(small)
    assert 0 < float((found - before).norm() / before.norm()) < 0.02
    packed.write(small, tmp_path / "out", dtype="float32")
    held = read_packed(tmp_path / "out", torch.float32, hold=True)
    assert held.vision is not None and held.vision.packed.keys() == vision.packed.keys()
    torch.testing.assert_close(features_of(held), found, atol=1e-5, rtol=1e-4)
    assert torch.equal(features_of(read_folder(tmp_path / "out", torch.float32)), found)
