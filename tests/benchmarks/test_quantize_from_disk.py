"""The model that is quantised from disk has Mistral's layout, in several files, and can be opened."""

import runpy
from pathlib import Path

import pytest

from smidgen.models.sources import LocalModel
from smidgen.models.streamed import open_local

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "quantize_from_disk.py"


@pytest.mark.parametrize("layers", [1, 2])
def test_the_model_it_writes_can_be_opened(layers, tmp_path):
    module = runpy.run_path(str(SCRIPT))
    count = module["write_model"](tmp_path / "source", layers, scale=32)
    assert len(list((tmp_path / "source").glob("*.safetensors"))) == layers + 1
    local = LocalModel("random", tmp_path / "source", "safetensors", "ab" * 32, 1, None, None, (), {})
    model = open_local(local)
    assert model.parameter_count() == count and len(model.anatomy.blocks) == layers


def test_the_shapes_are_those_of_mistral_7b():
    module = runpy.run_path(str(SCRIPT))
    config = module["configuration"](32, 1)
    sizes = [shape[0] * (shape[1] if len(shape) > 1 else 1) for shape in module["shapes"](config, 0).values()]
    assert 32 * sum(sizes) + 2 * 32000 * 4096 + 4096 == 7_241_732_096
