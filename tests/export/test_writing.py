"""Files others can run: whole or not there, always the same bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from smidgen.errors import InvalidInput, ReferenceNotFound, SmidgenError
from smidgen.export import gguf, runnable, safetensors
from smidgen.export.modelfile import modelfile
from smidgen.models import families
from smidgen.models.checkpoint.gguf import read
from smidgen.models.lineage import Lineage, Origin
from smidgen.models.model import Model, PackedTensor
from smidgen.models.reference import parse
from smidgen.models.sources import fetch
from smidgen.models.store import Store
from smidgen.progress import Event


@pytest.fixture(scope="module")
def model(published_tokenizer: Callable[..., Any]) -> Model:
    config = LlamaConfig(
        hidden_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, intermediate_size=96,
        vocab_size=400, max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    origin = Origin("tiny", "0" * 64, 1, 1, licence="mit", base_model="org/tiny")
    family = families.for_architecture("LlamaForCausalLM")
    return Model(LlamaForCausalLM(config).eval(), published_tokenizer("smollm", 400), family, Lineage(origin))


def everything(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_gguf_says_what_it_is(model: Model, tmp_path: Path) -> None:
    gguf.write(model, tmp_path / "a.gguf")
    metadata = read(tmp_path / "a.gguf").metadata
    assert (metadata["general.name"], metadata["general.license"]) == ("tiny", "mit")
    assert (metadata["general.base_model.0.organization"], metadata["general.base_model.0.name"]) == ("org", "tiny")
    assert not [key for key in metadata if "date" in key or "time" in key]


@pytest.mark.parametrize(("float_format", "stored"), [("float32", "F32"), ("float16", "F16"), ("bfloat16", "BF16")])
def test_matrices_are_stored_as_asked_and_vectors_as_float32(
    model: Model, tmp_path: Path, float_format: str, stored: str
) -> None:
    gguf.write(model, tmp_path / "a.gguf", float_format=float_format)
    for tensor in read(tmp_path / "a.gguf").tensors.values():
        assert tensor.format == ("F32" if len(tensor.shape) == 1 else stored)


def test_safetensors_are_the_same_bytes_every_time(model: Model, tmp_path: Path) -> None:
    safetensors.write(model, tmp_path / "a")
    safetensors.write(model, tmp_path / "b")
    assert everything(tmp_path / "a") == everything(tmp_path / "b")
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "smidgen.json"} <= set(
        everything(tmp_path / "a")
    )


def test_a_folder_is_replaced_whole(model: Model, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "left-over.txt").write_text("x")
    safetensors.write(model, tmp_path / "a", dtype="float32")
    assert "left-over.txt" not in everything(tmp_path / "a")
    assert json.loads((tmp_path / "a" / "config.json").read_text())["dtype"] == "float32"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_writing_leaves_the_model_as_it_was(model: Model, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    config = model.config.to_dict()
    safetensors.write(model, tmp_path / "a")
    gguf.write(model, tmp_path / "a.gguf")
    assert model.config.to_dict() == config
    for name, value in model.module.state_dict().items():
        assert value.dtype == torch.float32 and torch.equal(value, before[name])


class Stop(Exception):
    pass


def test_nothing_is_left_when_the_writing_is_stopped(model: Model, tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"old")
    seen: list[float] = []

    def stop(event: Event) -> None:
        seen.append(event.done)
        if event.done == 5:
            raise Stop

    with pytest.raises(Stop):
        gguf.write(model, tmp_path / "a.gguf", progress=stop)
    assert seen == [0, 1, 2, 3, 4, 5]
    assert everything(tmp_path) == {"a.gguf": b"old"}


def test_nothing_is_left_when_a_weight_cannot_be_written(model: Model, tmp_path: Path) -> None:
    broken = model.clone()
    with torch.no_grad():
        broken.weight("model.layers.0.mlp.down_proj.weight")[3, 4] = float("nan")
    with pytest.raises(InvalidInput, match="row 3, column 4"):
        gguf.write(broken, tmp_path / "a.gguf")
    packed = {"model.embed_tokens.weight": PackedTensor("q9_9", torch.zeros(400, 8, dtype=torch.uint8), (400, 64))}
    with pytest.raises(ReferenceNotFound):
        gguf.write(replace(model, packed=packed), tmp_path / "a.gguf")
    assert everything(tmp_path) == {}


def test_nothing_is_left_when_metadata_cannot_be_written(model: Model, tmp_path: Path) -> None:
    odd = replace(model.lineage.origin, licence="\ud800")  # fails while the file is open
    with pytest.raises(UnicodeEncodeError):
        gguf.write(replace(model, lineage=Lineage(odd)), tmp_path / "a.gguf")
    assert everything(tmp_path) == {}


def test_nothing_is_left_when_a_folder_cannot_be_written(
    model: Model, tmp_path: Path, published_tokenizer: Callable[..., Any]
) -> None:
    safetensors.write(model, tmp_path / "a")
    before = everything(tmp_path)
    with pytest.raises(AttributeError):
        safetensors.write(replace(model, tokenizer=None), tmp_path / "a")  # type: ignore[arg-type]
    assert everything(tmp_path) == before


@pytest.mark.parametrize("write", [gguf.write, safetensors.write])
def test_a_missing_folder_is_named(model: Model, tmp_path: Path, write: Callable[[Model, Path], None]) -> None:
    with pytest.raises(SmidgenError, match="cannot be written"):
        write(model, tmp_path / "no" / "where.gguf")


def test_a_folder_runs_as_the_gguf_beside_it_or_as_one_made_once(model: Model, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    safetensors.write(model, tmp_path / "plain")
    found = runnable.find(str(tmp_path / "plain"), store)
    assert found.kind == "safetensors"
    made = runnable.gguf_of(found, store)
    assert made == runnable.cached(found, store)
    stamp = made.stat().st_mtime_ns
    assert runnable.gguf_of(fetch(parse(str(tmp_path / "plain"), store), store), store) == made
    assert made.stat().st_mtime_ns == stamp
    gguf.write(model, tmp_path / "plain" / runnable.MADE_FILE)
    beside = runnable.find(str(tmp_path / "plain"), store)
    assert (beside.kind, runnable.gguf_of(beside, store)) == ("gguf", tmp_path / "plain" / runnable.MADE_FILE)


def test_a_modelfile_carries_template_stops_context_and_licence(model: Model) -> None:
    text = modelfile(model, file_name="small.gguf", licence='Be "kind" and """never""" shout.\n')
    lines = text.splitlines()
    assert lines[0] == "FROM ./small.gguf"
    assert "PARAMETER stop <|im_end|>" in lines
    assert "PARAMETER num_ctx 128" in lines
    assert "TEMPLATE" in text and "<|im_start|>{{ .Role }}" in text
    assert text.count('"""') == 2
    assert "'''never'''" in text


def test_a_modelfile_of_a_model_that_does_not_chat(model: Model, published_tokenizer: Callable[..., Any]) -> None:
    tokenizer = published_tokenizer("smollm", 400)
    tokenizer.chat_template = None
    assert modelfile(replace(model, tokenizer=tokenizer)) == "FROM ./model.gguf\nPARAMETER num_ctx 128\n"
    tokenizer.chat_template = "<|start_header_id|>"
    assert "PARAMETER stop <|eot_id|>" in modelfile(replace(model, tokenizer=tokenizer))
