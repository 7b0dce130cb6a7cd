"""The turned model computes what the given one does, and shares none of its weights."""

import runpy
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from smidgen.errors import Unsupported
from smidgen.export import safetensors
from smidgen.models.load import load

ROOT = Path(__file__).parents[2]
build_model = runpy.run_path(str(ROOT / "tests" / "shrink" / "conftest.py"))["build_model"]


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_the_turned_model_says_the_same(benchmark, family):
    rotate, model = benchmark("rotate"), build_model(family)
    with torch.no_grad():
        for name, weight in model.module.named_parameters():
            if "norm" in name:
                weight.copy_(torch.rand_like(weight) + 0.5)
    turned = rotate.rotated(model, rotate.rotation(64, seed=3))
    ids = torch.arange(24)[None]
    torch.testing.assert_close(turned.module(ids).logits, model.module(ids).logits, rtol=1e-4, atol=1e-4)
    for name in model.anatomy.matrices():
        assert torch.isclose(turned.weight(name), model.weight(name)).float().mean() < 0.1


def test_plain_transformers_loads_what_is_written(benchmark, tmp_path, capsys):
    rotate = benchmark("rotate")
    safetensors.write(build_model(), tmp_path / "tiny", dtype="float32")
    assert rotate.main([str(tmp_path / "turned"), "--model", str(tmp_path / "tiny")]) == 0
    assert "logits differ by at most" in capsys.readouterr().out
    ids = torch.arange(24)[None]
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "turned", dtype=torch.float32)
    assert not plain.config.tie_word_embeddings
    torch.testing.assert_close(plain(ids).logits, load(str(tmp_path / "tiny")).module(ids).logits, rtol=0.02, atol=0.05)


def test_models_that_scale_what_they_add_are_refused(benchmark):
    rotate = benchmark("rotate")
    with pytest.raises(Unsupported, match="phimoe"):
        rotate.rotated(build_model("phimoe"), rotate.rotation(64, seed=0))
