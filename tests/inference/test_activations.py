"""Activations in few bits: simulated in any format, really multiplied in 8 bits, smoothed before."""

from __future__ import annotations

import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from smidgen import formats
from smidgen.errors import InvalidInput, RecipeError, Unsupported
from smidgen.export import packed
from smidgen.inference import activations
from smidgen.inference.scoring import PromptScorer, Subject
from smidgen.models.model import Model
from smidgen.models.packed import held, read_folder
from smidgen.shrink.quantize.activations import greatest_inputs, smoothed, with_static_scales
from smidgen.shrink.quantize.quantize import Quantize

build_model = runpy.run_path(str(Path(__file__).parents[1] / "shrink" / "conftest.py"))["build_model"]
IDS = torch.randint(3, 400, (2, 24), generator=torch.Generator().manual_seed(1))


def with_outliers(family: str = "llama") -> Model:
    """A model some of whose channels are a hundred times larger than the others behind every norm."""
    model: Model = build_model(family, tie_word_embeddings=False)
    with torch.no_grad():
        for block in model.anatomy.blocks:
            for role, path in block.norm_before.items():
                model.weight(f"{path}.weight")[[3, 40]] *= 100
                for site in model.anatomy.sites():
                    if site.block == block.index and site.name.endswith(role):
                        for name in site.modules:
                            model.weight(f"{name}.weight")[:, [3, 40]] /= 100
    return model


def logits(model: Model) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.module(IDS).logits
    return found


def error(model: Model, truth: torch.Tensor) -> float:
    return float((logits(model) - truth).square().mean() / truth.var())


BOUNDS = {
    "integer:group=0": 0.01,
    "integer:bits=4,group=32": 0.6,
    "float8:kind=e5m2": 0.3,
    "kmeans:bits=5": 0.15,
    "fixed_point": 0.03,
    "q8_0": 0.01,
}


@pytest.mark.parametrize(("spelled", "bound"), BOUNDS.items())
def test_every_format_is_simulated(spelled: str, bound: float) -> None:
    truth, model = logits(build_model()), build_model()
    assert activations.apply(model, spelled) == 0
    assert 0 < error(model, truth) < bound


def test_each_token_is_rounded_for_itself() -> None:
    inputs = torch.stack([torch.linspace(-1, 1, 64), torch.linspace(-1000, 1000, 64)])[None]
    found = activations.rounded(inputs, formats.find("integer:group=0"))
    assert found.shape == inputs.shape
    assert ((found - inputs).abs().amax(-1)[0] < torch.tensor([0.01, 10.0])).all()
    with pytest.raises(Unsupported, match=r"which TQ2_0"):
        activations.apply(build_model(), "tq2_0")


@pytest.mark.parametrize(("spelled", "bound"), [("integer:group=0", 2e-3), ("float8", 2e-2)])
def test_eight_bits_are_really_multiplied(spelled: str, bound: float, tmp_path: Path) -> None:
    source = build_model(tie_word_embeddings=False)
    small = Quantize(default=spelled, solver="nearest").apply(source, IDS)
    model = held(small)
    matrices = len(small.anatomy.matrices()) - 1  # the embedding is read, not multiplied
    assert activations.apply(model, spelled) == matrices
    assert 0 < error(model, logits(small)) < bound
    # What the layer gives is what whole arithmetic on the same rounded numbers gives.
    path = small.anatomy.blocks[0].projections["down"].path
    layer, inputs = model.module.get_submodule(path), torch.randn(5, 128)
    unit = inputs.abs().amax(1, keepdim=True) / layer.highest
    scaled = inputs / unit
    scaled = scaled.round() if spelled.startswith("integer") else scaled.to(torch.float8_e4m3fn).float()
    expected = (scaled * unit) @ small.weight(f"{path}.weight").detach().T
    torch.testing.assert_close(layer(inputs), expected, atol=1e-4, rtol=1e-4)


def test_static_scales_travel_with_the_folder(tmp_path: Path) -> None:
    small = with_static_scales(Quantize(default="integer:group=0", solver="nearest").apply(build_model(), IDS), IDS)
    packed.write(small, tmp_path / "small", dtype="float32")
    again = read_folder(tmp_path / "small", torch.float32, hold=True)
    assert {name: each.inputs for name, each in again.packed.items()} == {
        name: each.inputs for name, each in small.packed.items()
    }
    assert all(each.inputs and each.inputs > 0 for each in again.packed.values())
    truth, dynamic = logits(small), read_folder(tmp_path / "small", torch.float32, hold=True)
    dynamic = replace(dynamic, packed={name: replace(each, inputs=None) for name, each in dynamic.packed.items()})
    assert activations.apply(again, "integer:group=0") > 0 and activations.apply(dynamic, "integer:group=0") > 0
    assert 0 < error(dynamic, truth) < error(again, truth) < 0.05
    with pytest.raises(InvalidInput, match="No matrix"):
        with_static_scales(build_model(), IDS)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_smoothing_keeps_the_model_and_helps_its_activations(family: str) -> None:
    model = with_outliers(family)
    truth, smooth = logits(model), smoothed(model, IDS)
    torch.testing.assert_close(logits(smooth), truth, atol=2e-3, rtol=2e-3)
    assert torch.equal(logits(model), truth), "the model that was given is not changed"
    before, after = greatest_inputs(model, IDS), greatest_inputs(smooth, IDS)
    path = model.anatomy.blocks[1].projections["query"].path
    assert (after[path].max() / after[path].median()) < 0.3 * (before[path].max() / before[path].median())
    harms = []
    for each in (model, smooth):
        small = held(Quantize(default="integer:group=0", solver="nearest").apply(each, IDS))
        activations.apply(small, "integer:group=0")
        harms.append(error(small, truth))
    assert harms[1] < 0.5 * harms[0]
    with pytest.raises(InvalidInput, match="expected 0 to 1"):
        smoothed(model, IDS, strength=2.0)


def test_scoring_and_measuring_take_it(tmp_path: Path, capsys: Any) -> None:
    packed.write(Quantize(default="integer", solver="nearest").apply(build_model(), IDS), tmp_path / "small")
    ids = IDS[0].tolist()
    rows = []
    for spelled in (None, "integer:bits=3,group=0"):
        with PromptScorer(Subject(tmp_path / "small", activations=spelled), threads=1) as scorer:
            rows.append(torch.from_numpy(scorer.logits(ids)))
    assert 1e-3 < float((rows[0] - rows[1]).square().mean() / rows[0].var()) < 1


def test_measuring_says_what_activations_cost(tmp_path: Path) -> None:
    from smidgen.evaluate.measure import measure
    from smidgen.export import safetensors

    safetensors.write(build_model(), tmp_path / "model")
    (tmp_path / "text.txt").write_text("usage: prog [-h] --foo FOO\n" * 200, encoding="utf-8")
    (found,) = measure(
        str(tmp_path / "model"),
        texts=[tmp_path / "text.txt"],
        windows=1,
        speed=False,
        activations="integer:bits=4,group=0",
        threads=1,
    )
    assert found.activations == "integer:bits=4,group=0" and 1e-3 < found.quality[0].to_dict()["kl_mean"] < 5
    assert found.quality[0].to_dict()["ppl_source"] > 1


def test_quantizing_prepares_for_them_in_one_step() -> None:
    step = Quantize(default="integer:group=0", solver="nearest", smoothing=0.5, static_activations=True)
    small = step.apply(with_outliers(), IDS)
    assert [each.operation for each in small.lineage.steps][-1] == "quantize"
    assert small.lineage.steps[-1].parameters["smoothing"] == 0.5
    assert small.lineage.steps[-1].parameters["static_activations"] is True
    assert all(each.inputs for name, each in small.packed.items() if "embed" not in name)
    with pytest.raises(RecipeError, match="smoothing is a share"):
        Quantize(default="integer", smoothing=1.5)
