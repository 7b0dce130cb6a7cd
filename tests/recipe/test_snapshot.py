"""A model between two steps comes back bit for bit."""

from __future__ import annotations

import pytest
import torch

from smidgen.export import gguf, safetensors
from smidgen.models.lineage import Lineage
from smidgen.models.load import load
from smidgen.recipe import snapshot
from smidgen.shrink.prune.prune import Prune
from smidgen.shrink.quantize.quantize import Quantize


def require_same(one, two, text):
    first, second = one.module.state_dict(), two.module.state_dict()
    assert list(first) == list(second)
    for name, value in first.items():
        assert value.dtype == second[name].dtype and torch.equal(value, second[name]), name
    assert {name: (entry.format, entry.shape) for name, entry in one.packed.items()} == {
        name: (entry.format, entry.shape) for name, entry in two.packed.items()
    }
    assert all(torch.equal(entry.data, two.packed[name].data) for name, entry in one.packed.items())
    assert one.lineage == two.lineage and type(one.family) is type(two.family)
    facts = [{**each.config.to_dict(), "_name_or_path": "", "dtype": ""} for each in (one, two)]
    assert facts[0] == facts[1]
    assert one.tokenizer.get_vocab() == two.tokenizer.get_vocab()
    assert one.tokenizer.encode(text) == two.tokenizer.encode(text)
    assert one.tokenizer.chat_template == two.tokenizer.chat_template
    assert (one.anatomy.head, one.anatomy.tied) == (two.anatomy.head, two.anatomy.tied)
    head, embedding = (two.module.get_submodule(path).weight for path in (two.anatomy.head, two.anatomy.embedding))
    assert (head is embedding) == one.anatomy.tied
    assert two.module.training == one.module.training is False


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("default", [None, "q4_0"])
def test_every_kind_of_model_comes_back(tiny_model, tmp_path, family, tied, dtype, default):
    plain = tiny_model(family, tie_word_embeddings=tied, num_hidden_layers=2)
    safetensors.write(plain, tmp_path / "source")
    model = load(str(tmp_path / "source"), dtype=dtype)
    calibration = torch.randint(3, 400, (2, 16), generator=torch.Generator().manual_seed(0))
    if default is not None:
        some = {model.anatomy.blocks[0].projections["up"].weight: "q8_0"}
        model = Quantize(formats=some, default=default).apply(model, calibration)
    snapshot.save(model, tmp_path / "kept")
    again = snapshot.load(tmp_path / "kept", getattr(torch, dtype))
    require_same(model, again, "def main(): return 'Ein Café'")
    with torch.no_grad():
        assert torch.equal(model.module(calibration).logits, again.module(calibration).logits)
    files = []
    for number, each in enumerate((model, again)):
        gguf.write(each, tmp_path / f"{number}.gguf")
        files.append((tmp_path / f"{number}.gguf").read_bytes())
    assert files[0] == files[1]


def test_a_cut_model_keeps_its_lineage_and_its_smaller_tokenizer(tiny_model, tmp_path):
    model = tiny_model(vocab_size=768)
    calibration = torch.randint(3, 768, (2, 16), generator=torch.Generator().manual_seed(0))
    cut = Prune("vocabulary", "use", keep=512).apply(model, calibration, token_use=torch.arange(768))
    cut = Prune("layer", "block_influence", keep=2).apply(cut, calibration % 512)
    snapshot.save(cut, tmp_path / "kept")
    again = snapshot.load(tmp_path / "kept", torch.float32)
    require_same(cut, again, "import argparse")
    assert again.lineage.kept_tokens is not None and len(again.lineage.kept_tokens) == 512
    assert again.lineage.kept_layers is not None and len(again.lineage.kept_layers) == 2
    assert isinstance(again.lineage, Lineage) and len(again.lineage.steps) == 2


def test_a_packed_weight_is_kept_once(tiny_model, tmp_path):
    model = tiny_model()
    calibration = torch.randint(3, 400, (2, 16), generator=torch.Generator().manual_seed(0))
    snapshot.save(model, tmp_path / "whole")
    snapshot.save(Quantize(default="q4_0").apply(model, calibration), tmp_path / "packed")
    sizes = [
        sum(path.stat().st_size for path in (tmp_path / name).glob("*.safetensors")) for name in ("whole", "packed")
    ]
    assert sizes[1] < 0.2 * sizes[0]


def test_a_snapshot_replaces_an_earlier_one_whole(tiny_model, tmp_path):
    snapshot.save(tiny_model(), tmp_path / "kept")
    (tmp_path / "kept" / "stray").write_text("x")
    second = tiny_model(seed=7)
    snapshot.save(second, tmp_path / "kept")
    require_same(second, snapshot.load(tmp_path / "kept", torch.float32), "x")
    assert not (tmp_path / "kept" / "stray").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
