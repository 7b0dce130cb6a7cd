"""A model that was read from a quantised file: what is still as it was there keeps its bytes."""

import pytest
import torch

from smidgen.export import gguf
from smidgen.models.load import read_gguf
from smidgen.shrink.prune.prune import Prune
from smidgen.shrink.quantize.allocate import allocate, choices
from smidgen.shrink.quantize.quantize import Quantize
from smidgen.shrink.quantize.search import Trial
from smidgen.shrink.quantize.sensitivity import probe
from smidgen.shrink.quantize.solvers.nearest import Nearest


@pytest.fixture
def read(tiny_model, windows, tmp_path):
    """A model as read from a file in which its matrices have two formats."""
    model = tiny_model(hidden_size=256, intermediate_size=256, head_dim=16)
    kinds = {name: "q4_k" if "mlp" in name else "q5_0" for name in model.anatomy.matrices()}
    gguf.write(Quantize(kinds, solver="nearest").apply(model, windows), tmp_path / "x.gguf")
    return read_gguf(tmp_path / "x.gguf", torch.float32)


def test_every_matrix_is_known_as_it_was_read(read):
    for name in read.anatomy.matrices():
        found = read.original(name)
        assert found is not None and found.format == ("q4_k" if "mlp" in name else "q5_0")
        with torch.no_grad():
            read.weight(name)[0, 0] += 1e-3
        assert read.original(name) is None
    assert read.original("model.norm.weight") is None and read.original("none") is None


def test_allocation_at_the_files_own_size_gives_the_file_again(read, windows, tmp_path):
    sensitivity = probe(read, windows[:2])
    table = choices(read, sensitivity)
    own = {name: read.original(name) for name in table}
    mix = allocate(table, sum(each.data.numel() for each in own.values()))
    assert {name: choice.format for name, choice in mix.items()} == {name: each.format for name, each in own.items()}
    assert sum(choice.damage for choice in mix.values()) == 0
    formats = {name: choice.format for name, choice in mix.items()}
    result = Quantize(formats).apply(read, windows, sensitivity=sensitivity)
    assert all(torch.equal(result.packed[name].data, own[name].data) for name in own)
    assert Trial(read, sensitivity, windows[:1], Nearest()).divergence(formats) == pytest.approx(0, abs=1e-6)
    gguf.write(result, tmp_path / "again.gguf")
    first, again = ((tmp_path / name).read_bytes() for name in ("x.gguf", "again.gguf"))
    assert len(first) == len(again)


def test_what_was_cut_is_stored_anew(read, windows):
    cut = Prune("neuron", keep=128, multiple=32).apply(read, windows)
    name, untouched = "model.layers.0.mlp.down_proj.weight", "model.layers.0.self_attn.o_proj.weight"
    assert cut.original(name) is None and cut.original(untouched) is not None
    result = Quantize(default="q5_0").apply(cut, windows)
    assert torch.equal(result.packed[untouched].data, read.original(untouched).data)
    assert result.packed[name].shape == (256, 128)


def test_other_formats_and_other_values_are_solved(read, windows):
    result = Quantize(default="q8_0").apply(read, windows)
    assert {each.format for each in result.packed.values()} == {"q8_0"}
    with torch.no_grad():
        read.weight("lm_head.weight").mul_(1.5)
    name = "model.embed_tokens.weight"
    assert read.original(name) is None
    assert Quantize({name: "q5_0"}).apply(read, windows).packed[name].format == "q5_0"
