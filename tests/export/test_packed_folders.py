"""Folders of packed bytes: what was quantized is what is read, and it runs without being unpacked as a whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from smidgen import formats
from smidgen.errors import DamagedFile, InvalidInput, Unsupported
from smidgen.export import gguf, packed
from smidgen.models import families
from smidgen.models.facts import inspect
from smidgen.models.lineage import Lineage, Origin
from smidgen.models.load import load, read_folder
from smidgen.models.model import Model
from smidgen.models.packed import WEIGHTS, held, held_bytes
from smidgen.models.packed import read_folder as read_packed
from smidgen.models.reference import parse
from smidgen.models.sources import fetch
from smidgen.models.store import Store
from smidgen.shrink.quantize.quantize import Quantize

NAMES = [name for name in formats.names() if formats.find(name).ggml_type is None]
IDS = torch.randint(3, 400, (2, 24), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def model(request: pytest.FixtureRequest, published_tokenizer: Callable[..., Any]) -> Model:
    config = LlamaConfig(
        hidden_size=64, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2, intermediate_size=128,
        vocab_size=400, max_position_embeddings=64, initializer_range=0.1, tie_word_embeddings=request.param,
        bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    origin = Origin("tiny", "0" * 64, 1, 1)
    family = families.for_architecture("LlamaForCausalLM")
    return Model(LlamaForCausalLM(config).eval(), published_tokenizer("smollm", 400), family, Lineage(origin))


def logits(model: Model) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.module(IDS).logits
    return found


@pytest.mark.parametrize("name", [*NAMES, "integer:bits=3,group=0,symmetric=false", "q4_0"])
def test_a_folder_is_read_back_as_it_was(model: Model, name: str, tmp_path: Path) -> None:
    small = Quantize(default=name).apply(model, IDS)
    packed.write(small, tmp_path / "out", dtype="float32")
    for again in (
        read_folder(tmp_path / "out", torch.float32),
        read_packed(tmp_path / "out", torch.float32, hold=True),
    ):
        assert set(again.packed) == set(model.anatomy.matrices()) and again.lineage == small.lineage
        for key, stored in again.packed.items():
            assert stored.format == small.packed[key].format and torch.equal(stored.data, small.packed[key].data)
        torch.testing.assert_close(logits(again), logits(small), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits(held(small)), logits(small), atol=1e-5, rtol=1e-5)
    packed.write(small, tmp_path / "twice", dtype="float32")
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (tmp_path / "twice" / WEIGHTS).read_bytes()


def test_what_is_held_is_little_more_than_the_bytes(model: Model, tmp_path: Path) -> None:
    small = Quantize(default="integer:bits=4", solver="nearest").apply(model, IDS)
    packed.write(small, tmp_path / "out")
    stored = sum(each.data.numel() for each in small.packed.values())
    vectors = 4 * 64 * 3 + 1000
    assert held_bytes(read_packed(tmp_path / "out", torch.float32, hold=True).module) < stored + vectors
    assert (tmp_path / "out" / WEIGHTS).stat().st_size < stored + vectors + 4000


def test_its_facts_count_weights_and_name_the_format(model: Model, tmp_path: Path) -> None:
    small = Quantize(default="ternary", solver="nearest").apply(model, IDS)
    packed.write(small, tmp_path / "out")
    store = Store(tmp_path / "store")
    facts = inspect(fetch(parse(str(tmp_path / "out"), store), store))
    assert facts.parameters == model.parameter_count()
    assert load(str(tmp_path / "out")).packed.keys() == small.packed.keys()


def test_a_gguf_of_it_is_refused_before_anything_is_written(model: Model, tmp_path: Path) -> None:
    small = Quantize(default="kmeans", solver="nearest").apply(model, IDS)
    with pytest.raises(Unsupported, match="GGUF has no place for the number format kmeans"):
        gguf.write(small, tmp_path / "small.gguf")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({"format": "integer:bits=99", "rows": 400, "columns": 64}, "cannot be what it says"),
        ({"format": "integer", "rows": 400, "columns": 128}, "bytes"),
        ({"format": "integer", "rows": 400}, "columns"),
    ],
)
def test_a_folder_that_contradicts_itself_is_refused(
    model: Model, tmp_path: Path, described: dict[str, Any], message: str
) -> None:
    from safetensors.torch import load_file, save_file

    small = Quantize(default="integer", solver="nearest").apply(model, IDS)
    packed.write(small, tmp_path / "out")
    path, key = tmp_path / "out" / WEIGHTS, "model.embed_tokens.weight"
    whole = {
        name: {"format": each.format, "rows": each.shape[0], "columns": each.shape[1]}
        for name, each in small.packed.items()
    }
    save_file(load_file(path), path, {"smidgen.packed": json.dumps(whole | {key: described})})
    with pytest.raises(DamagedFile, match=message):
        read_folder(tmp_path / "out", torch.float32)
    path.write_bytes(path.read_bytes()[:-64])
    with pytest.raises((DamagedFile, InvalidInput)):
        read_folder(tmp_path / "out", torch.float32)


def test_what_is_not_packed_stays_as_it_was(model: Model, tmp_path: Path) -> None:
    key = "model.layers.0.mlp.down_proj.weight"
    small = Quantize(formats={key: "float8"}, solver="nearest").apply(model, IDS)
    packed.write(replace(small), tmp_path / "out", dtype="float32")
    again = read_folder(tmp_path / "out", torch.float32)
    assert set(again.packed) == {key}
    assert all(torch.equal(value, small.module.state_dict()[name]) for name, value in again.module.state_dict().items())
