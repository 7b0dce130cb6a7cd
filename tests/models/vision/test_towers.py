"""Passes that shrink take a tower as any model; what they make of it answers, and lies in files as before."""

from __future__ import annotations

import runpy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from smidgen.errors import InvalidInput, Unsupported
from smidgen.export import packed, safetensors
from smidgen.models.load import read_folder
from smidgen.models.model import Model
from smidgen.models.packed import read_folder as read_packed
from smidgen.models.vision import seen, tower
from smidgen.shrink.prune.prune import Prune
from smidgen.shrink.quantize.quantize import Quantize

TINY = runpy.run_path(str(Path(__file__).parents[2] / "tiny_mississippi.py"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Make a model with what its tower reads once."""

    @cache
    def make() -> tuple[Model, torch.Tensor, Any]:
        folder = tmp_path_factory.mktemp("tower") / "model"
        TINY["write"](folder, "llama")
        model = read_folder(folder, torch.float32)
        images = [noise(100, 60), noise(60, 140)]
        return model, tower.windows(model, images, 8), model.vision.family.picture(model.vision, images[0])

    return make


def noise(width: int, height: int) -> Image.Image:
    return Image.merge("RGB", [Image.effect_noise((width, height), 90) for _ in range(3)])


@torch.no_grad()
def changed(before: torch.Tensor, after: torch.Tensor) -> float:
    return float((after - before).norm() / before.norm())


def test_a_tower_alone_computes_what_it_does_inside(made: Any) -> None:
    model, windows, picture = made()
    taken = tower.taken(model)
    assert windows.shape == (8, 3 * TINY["SIDE"] ** 2) and windows.dtype == torch.int64
    whole = model.vision.module.vision_tower(pixel_values=picture.pixels).last_hidden_state
    torch.testing.assert_close(taken.module(windows[:7]).last_hidden_state, whole, atol=1e-5, rtol=1e-5)
    assert len(taken.anatomy.matrices()) == 6 * TINY["BLOCKS"]
    assert taken.parameter_count() == sum(each.numel() for each in model.vision.module.vision_tower.parameters())


@pytest.mark.parametrize(
    ("operation", "part", "most"),
    [
        (Prune("neuron", "wanda", keep=32), "intermediate_size", 0.2),
        (Prune("neuron", "l2", keep=32), "intermediate_size", 0.2),
        (Prune("neuron", "gelu", keep=32, repair=False), "intermediate_size", 0.3),
        (Prune("head", "activation", keep=3, whole_groups=True), "num_attention_heads", 0.2),
        (Prune("layer", "block_influence", keep=1), "num_hidden_layers", 0.6),
    ],
)
def test_parts_of_a_tower_go(made: Any, operation: Prune, part: str, most: float, tmp_path: Path) -> None:
    model, windows, picture = made()
    before = seen(model, [picture])
    smaller = tower.put_back(model, operation.apply(tower.taken(model), windows))
    after = seen(smaller, [picture])
    assert 0 < changed(before, after) < most
    assert torch.equal(seen(model, [picture]), before)  # the one given stays
    assert smaller.parameter_count() < model.parameter_count()
    assert getattr(smaller.vision.module.vision_tower.config, part) == operation.keep
    step = smaller.lineage.steps[-1]
    assert (step.operation, step.parameters["part"], step.parameters["structure"]) == (
        "prune",
        "vision",
        operation.structure,
    )
    safetensors.write(smaller, tmp_path / "smaller", dtype="float32")
    again = read_folder(tmp_path / "smaller", torch.float32)
    assert torch.equal(seen(again, [picture]), after)
    assert again.lineage == smaller.lineage


def test_heads_that_go_are_those_whose_output_is_cut(made: Any) -> None:
    model, windows, picture = made()
    smaller = tower.put_back(
        model, Prune("head", "l2", keep=2, whole_groups=True, repair=False).apply(tower.taken(model), windows)
    )
    muted = tower.taken(model).clone()
    kept = smaller.vision.module.vision_tower.encoder.layer
    for index, block in enumerate(muted.anatomy.blocks):
        weight = muted.weight(block.projections["output"].weight)
        columns = kept[index].attention.projection_layer.weight
        gone = [column for column in range(TINY["WIDTH"]) if not (weight[:, column, None] == columns).all(0).any()]
        assert len(gone) == TINY["WIDTH"] // 2
        weight.data[:, gone] = 0
    expected = seen(tower.put_back(model, muted), [picture])
    torch.testing.assert_close(seen(smaller, [picture]), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("number_format", "most"), [("q8_0", 0.01), ("integer:bits=4,group=16", 0.1)])
def test_matrices_of_a_tower_are_quantised(made: Any, number_format: str, most: float, tmp_path: Path) -> None:
    model, windows, picture = made()
    small = tower.put_back(model, Quantize(default=number_format).apply(tower.taken(model), windows))
    assert 0 < changed(seen(model, [picture]), seen(small, [picture])) < most
    assert len(small.vision.packed) == 6 * TINY["BLOCKS"] and not small.packed
    packed.write(small, tmp_path / "small", dtype="float32")
    held = read_packed(tmp_path / "small", torch.float32, hold=True)
    torch.testing.assert_close(seen(held, [picture]), seen(small, [picture]), atol=1e-5, rtol=1e-4)
    assert set(held.vision.packed) == set(small.vision.packed)
    whole = read_packed(tmp_path / "small", torch.float32)
    assert torch.equal(seen(whole, [picture]), seen(small, [picture]))


def test_gptq_goes_by_what_tiles_hold(made: Any) -> None:
    model, windows, picture = made()
    before, taken = seen(model, [picture]), tower.taken(model)
    errors = {
        solver: changed(before, seen(tower.put_back(model, Quantize(
            default="integer:bits=3,group=16", solver=solver).apply(taken, windows)), [picture]))
        for solver in ("gptq", "nearest")
    }  # fmt: skip
    assert errors["gptq"] < errors["nearest"]


def test_what_cannot_be_is_refused(made: Any) -> None:
    model, windows, _ = made()
    taken = tower.taken(model)
    with pytest.raises(Unsupported, match="all alike"):
        Prune("neuron", "l2", allocation=(32, 64)).apply(taken, windows)
    with pytest.raises(InvalidInput, match="2 of 4 query heads per block cannot be kept"):
        Prune("head", "l2", keep=2).apply(taken, windows)
    with pytest.raises(Unsupported, match="reads no images"):
        tower.taken(replace(model, vision=None))
