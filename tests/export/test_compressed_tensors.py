"""What is written for vLLM is what the compressed-tensors package reads: its own decompression is the oracle."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from compressed_tensors.quantization import QuantizationConfig
from safetensors import safe_open

from smidgen import formats
from smidgen.errors import Unsupported
from smidgen.export import compressed_tensors
from smidgen.models.model import Model
from smidgen.models.streamed import INDEX
from smidgen.shrink.quantize.quantize import Quantize

build_model = runpy.run_path(str(Path(__file__).parents[1] / "shrink" / "conftest.py"))["build_model"]
WINDOWS = torch.randint(3, 400, (2, 32), generator=torch.Generator().manual_seed(1))
FORMATS = {
    "integer:bits=4,group=32": ("pack-quantized", torch.int32, torch.float16),
    "integer:bits=8,group=64": ("pack-quantized", torch.int32, torch.float16),
    "integer:bits=8,group=0": ("int-quantized", torch.int8, torch.float32),
    "float8": ("float-quantized", torch.float8_e4m3fn, torch.float32),
}


def stored_in(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for name, file in json.loads((folder / INDEX).read_text())["weight_map"].items():
        with safe_open(folder / file, "pt") as opened:
            found[name] = opened.get_tensor(name)
    assert len(list(folder.glob("*.safetensors"))) == 4  # one for each block, and one
    return found


def quantized(name: str, **changes: Any) -> Model:
    return Quantize(default=name, solver="nearest").apply(build_model(**changes), WINDOWS)


@pytest.mark.parametrize("name", FORMATS)
def test_its_own_package_decompresses_it_to_the_same_weights(name, tmp_path):
    model = quantized(name, tie_word_embeddings=False)
    compressed_tensors.write(model, tmp_path / "out")
    layout, kind, scales = FORMATS[name]
    written = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    config = QuantizationConfig.model_validate(written)
    assert config.format == layout and config.ignore == ["lm_head"]
    scheme = config.config_groups["group_0"]
    stored, matrices = stored_in(tmp_path / "out"), set(model.anatomy.matrices())
    read = BaseCompressor.get_value_from_registry(layout)
    ends = {"model.embed_tokens.weight", "lm_head.weight"}
    for matrix in matrices - ends:
        stem = matrix.removesuffix("weight")
        state = {part: stored.pop(f"{stem}{part}") for part in read.compression_param_names(scheme)}
        assert state.get("weight_packed", state.get("weight")).dtype == kind and state["weight_scale"].dtype == scales
        values = read.decompress(state, scheme)["weight"]
        assert torch.equal(values, model.weight(matrix).detach().to(values.dtype)), matrix
    others = {each: value for each, value in model.module.state_dict().items() if each not in matrices - ends}
    assert set(stored) == set(others)
    for each, value in stored.items():
        assert torch.equal(value, others[each].half())


@pytest.mark.parametrize(("bits", "columns"), [(4, 64), (4, 40), (8, 64), (8, 6)])
def test_codes_are_packed_as_the_package_packs_them(bits, columns):
    codes = torch.randint(0, 1 << bits, (5, columns), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    signed = (codes.to(torch.int16) - (1 << (bits - 1))).to(torch.int8)
    assert torch.equal(compressed_tensors.words(codes, bits), pack_to_int32(signed, bits))


def test_transformers_loads_it_and_computes_the_same(tmp_path):
    from transformers import AutoModelForCausalLM

    model = quantized("integer:bits=4,group=32")
    compressed_tensors.write(model, tmp_path / "out")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    with torch.no_grad():
        expected, found = (each(WINDOWS, use_cache=False).logits for each in (model.module, again))
    assert torch.allclose(found, expected, atol=2e-2 * float(expected.abs().max()))


def test_formats_that_have_no_place_are_refused():
    for name in ("q4_0", "integer:bits=3,group=32", "integer:bits=4,group=32,symmetric=false", "float8:kind=e5m2"):
        with pytest.raises(Unsupported, match="no place"):
            compressed_tensors.require_format(formats.find(name).name)
    with pytest.raises(Unsupported, match="no place"):
        compressed_tensors.require_format("integer:bits=4,group=0")


def test_mixed_formats_and_experts_are_refused_and_leave_nothing(tmp_path):
    model = build_model(num_hidden_layers=1)
    mixed = Quantize({"model.layers.0.mlp.down_proj.weight": "float8"}, default="integer:bits=8,group=0")
    with pytest.raises(Unsupported, match="one format"):
        compressed_tensors.write(mixed.apply(model, WINDOWS), tmp_path / "out")
    with pytest.raises(Unsupported, match="experts"):
        compressed_tensors.require_writable(build_model("phimoe", num_local_experts=2, num_hidden_layers=1))
    assert not list(tmp_path.iterdir())
