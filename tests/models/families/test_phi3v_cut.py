"""Phi-3 vision's language model is cut and stored as a Phi-3 is, and goes on seeing; its files keep their names."""

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

from smidgen.data.rows import Corpus, Row
from smidgen.export import packed, safetensors
from smidgen.models.load import read_folder
from smidgen.models.model import Model
from smidgen.models.vision import Shown, embedded, seen
from smidgen.shrink.finetune.finetune import Finetune
from smidgen.shrink.prune.prune import Prune
from smidgen.shrink.prune.structures.width import Width
from smidgen.shrink.quantize.quantize import Quantize

TINY = runpy.run_path(str(Path(__file__).parents[2] / "tiny_phi3v.py"))
EYES, HIDDEN = TINY["EYES"], TINY["HIDDEN"]
WINDOWS = torch.randint(3, 400, (4, 32), generator=torch.Generator().manual_seed(1))
IMAGE = Image.fromarray(numpy.random.default_rng(0).integers(0, 256, (20, 50, 3), dtype=numpy.uint8))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, published_tokenizer: Any) -> Model:
    folder = tmp_path_factory.mktemp("phi3v") / "model"
    return read_folder(TINY["write"](folder, published_tokenizer("phi", 512, begins=True)), torch.float32)


@torch.no_grad()
def answer_of(model: Model) -> torch.Tensor:
    """Return the logits of a question about an image."""
    vision = model.vision
    assert vision is not None
    pictures = vision.family.pictures(vision, [IMAGE])
    ids = vision.family.layout(vision, model.tokenizer, [Shown("user", (*pictures, "What is it?"))])
    return model.module(inputs_embeds=embedded(model, ids, seen(model, pictures))).logits[0]


CUTS = {
    "layers": Prune("layer", keep=1),
    "neurons": Prune("neuron", keep=64),
    "neurons of each block": Prune("neuron", keep=64, uneven=True),
    "heads": Prune("head", keep=2, whole_groups=True),
    "channels": Prune("width", keep=32),
}


@pytest.mark.parametrize("name", CUTS)
def test_what_was_cut_is_written_as_published_and_sees_as_before(model: Model, name: str, tmp_path: Path) -> None:
    cut = CUTS[name].apply(model, WINDOWS)
    expected = answer_of(cut)
    assert not torch.equal(expected, answer_of(model))
    safetensors.write(cut, tmp_path / "out", dtype="float32")
    again = read_folder(tmp_path / "out", torch.float32)
    torch.testing.assert_close(answer_of(again), expected, atol=1e-5, rtol=1e-5)
    assert again.parameter_count() == cut.parameter_count() < model.parameter_count()
    published = TINY["published_weights"]()
    written = load_file(tmp_path / "out" / "model.safetensors")
    kept = {key for key in published if name != "layers" or ".1." not in key or key.startswith(EYES)}
    assert written.keys() == kept
    same = [key for key in written if written[key].shape == published[key].shape and key.startswith(EYES)]
    assert all(torch.equal(written[key], published[key]) for key in same)
    assert len(same) == sum(key.startswith(EYES) for key in published) - (2 if name == "channels" else 0)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["rope_scaling"] == TINY["CONFIG"]["rope_scaling"]


def test_cut_twice_and_read_between_it_sees_as_before(model: Model, tmp_path: Path) -> None:
    once = Prune("head", keep=2, whole_groups=True).apply(model, WINDOWS)
    safetensors.write(once, tmp_path / "once", dtype="float32")
    twice = Prune("neuron", keep=64).apply(read_folder(tmp_path / "once", torch.float32), WINDOWS)
    safetensors.write(twice, tmp_path / "twice", dtype="float32")
    again = read_folder(tmp_path / "twice", torch.float32)
    torch.testing.assert_close(answer_of(again), answer_of(twice), atol=1e-5, rtol=1e-5)
    config = json.loads((tmp_path / "twice" / "config.json").read_text())
    assert (config["num_attention_heads"], config["head_dim"], config["intermediate_size"]) == (2, 16, 64)


def test_channels_that_stay_are_those_that_the_eyes_write(model: Model) -> None:
    kept = torch.arange(0, HIDDEN, 2)
    cut = Width().remove(model.family.for_cutting(model, "width"), kept)
    vision, before = cut.vision, model.vision
    assert vision is not None and before is not None
    picture = before.family.picture(before, IMAGE)
    torch.testing.assert_close(seen(cut, [picture]), seen(model, [picture])[:, kept])
    assert before.module.img_projection[2].out_features == HIDDEN  # the model that was given is as it was


def test_a_quantised_one_sees_from_a_folder_of_packed_bytes(model: Model, tmp_path: Path) -> None:
    small = Quantize(default="q4_0", solver="nearest").apply(model, WINDOWS)
    packed.write(small, tmp_path / "out", dtype="float32")
    again = read_folder(tmp_path / "out", torch.float32)
    torch.testing.assert_close(answer_of(again), answer_of(small), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(answer_of(small), answer_of(model), atol=1e-2)


def test_a_healed_one_sees_as_before(model: Model, tmp_path: Path) -> None:
    texts = [Corpus(name, tuple(Row(f"{number} see you") for number in range(12))) for name in ("trained", "held out")]
    cut = Prune("neuron", keep=64).apply(model, WINDOWS)
    fast: dict[str, Any] = {"learning_rate": 1e-3, "steps": 2, "batch_size": 2, "length": 32, "patience": 0}
    healed = Finetune("unsupervised", **fast).apply(cut, *texts)
    assert not torch.equal(answer_of(healed), answer_of(cut))
    vision, before = healed.vision, cut.vision
    assert vision is not None and before is not None
    picture = before.family.picture(before, IMAGE)
    assert torch.equal(seen(healed, [picture]), seen(model, [picture]))
    safetensors.write(healed, tmp_path / "out", dtype="float32")
    torch.testing.assert_close(
        answer_of(read_folder(tmp_path / "out", torch.float32)), answer_of(healed), atol=1e-5, rtol=1e-5
    )
