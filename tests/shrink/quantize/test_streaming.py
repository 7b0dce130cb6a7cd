"""A model that stays on disk is quantised to the same bytes as one in memory, and goes on where it was stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from smidgen.errors import DamagedFile, InvalidInput, Unsupported
from smidgen.export import gguf, safetensors
from smidgen.models.load import load_local
from smidgen.models.model import Model
from smidgen.models.sources import LocalModel
from smidgen.models.streamed import INDEX, StreamedModel, open_local
from smidgen.progress import Event
from smidgen.shrink.quantize.quantize import Quantize
from smidgen.shrink.quantize.sensitivity import head_moments
from smidgen.shrink.quantize.sequential import memory_bytes

KINDS = {
    "llama": {"tie_word_embeddings": False},
    "qwen2": {"tie_word_embeddings": False},
    "phimoe": {"tie_word_embeddings": False, "num_local_experts": 4, "num_hidden_layers": 2},
}


def local_of(path: Path) -> LocalModel:
    kind = "gguf" if path.suffix == ".gguf" else "safetensors"
    return LocalModel(path.name, path, kind, "ab" * 32, 1000, None, None, (), {})  # type: ignore[arg-type]


@pytest.fixture
def folder_of(tiny_model: Callable[..., Model], tmp_path: Path) -> Callable[..., Path]:
    def write(family: str = "llama", *, dtype: str = "float32", **changes: Any) -> Path:
        folder = tmp_path / f"{family}-source"
        safetensors.write(tiny_model(family, **(KINDS[family] | changes)), folder, dtype=dtype)
        return folder

    return write


def digest(model: Model, path: Path) -> str:
    gguf.write(model, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def both(path: Path, operation: Quantize, windows: torch.Tensor, work: Path) -> tuple[Model, Model]:
    return (
        operation.apply(load_local(local_of(path)), windows),
        operation.apply(open_local(local_of(path)), windows, work=work),
    )


@pytest.mark.parametrize("family", KINDS)
@pytest.mark.parametrize("solver", ["gptq", "nearest"])
def test_what_is_made_from_disk_is_what_is_made_in_memory(family, solver, folder_of, windows, tmp_path):
    in_memory, streamed = both(folder_of(family), Quantize(default="q4_0", solver=solver), windows, tmp_path / "work")
    assert digest(in_memory, tmp_path / "a.gguf") == digest(streamed, tmp_path / "b.gguf")
    assert streamed.lineage == in_memory.lineage and streamed.parameter_count() == in_memory.parameter_count()


def test_weights_of_sixteen_bits_and_mixed_formats_come_out_the_same(folder_of, windows, tmp_path):
    down = "model.layers.1.mlp.down_proj.weight"
    formats = {"model.embed_tokens.weight": "q8_0", down: "q5_0", "lm_head.weight": "q8_0"}
    operation = Quantize(default="q4_1", formats=formats)
    in_memory, streamed = both(folder_of(dtype="bfloat16"), operation, windows, tmp_path / "work")
    assert streamed.packed[down].format == "q5_0"
    assert digest(in_memory, tmp_path / "a.gguf") == digest(streamed, tmp_path / "b.gguf")


def test_matrices_that_are_not_named_are_written_as_they_are(folder_of, windows, tmp_path):
    operation = Quantize(formats={"model.layers.1.mlp.down_proj.weight": "q4_0"})
    in_memory, streamed = both(folder_of(), operation, windows, tmp_path / "work")
    assert len(streamed.packed) == 1
    assert digest(in_memory, tmp_path / "a.gguf") == digest(streamed, tmp_path / "b.gguf")


@pytest.mark.parametrize("family", KINDS)
def test_a_gguf_is_read_block_by_block_as_well(family, tiny_model, windows, tmp_path):
    gguf.write(tiny_model(family, **KINDS[family]), tmp_path / "source.gguf")
    in_memory, streamed = both(tmp_path / "source.gguf", Quantize(default="q4_0"), windows, tmp_path / "work")
    assert digest(in_memory, tmp_path / "a.gguf") == digest(streamed, tmp_path / "b.gguf")


def test_a_tied_embedding_goes_by_what_the_head_notices(folder_of, windows, tmp_path):
    folder = folder_of(tie_word_embeddings=True)
    memory, disk = load_local(local_of(folder)), open_local(local_of(folder))
    expected, found = head_moments(memory, windows), head_moments(disk, windows)
    assert torch.allclose(found, expected, rtol=2e-2, atol=2e-2 * float(expected.abs().max()))
    streamed = Quantize(default="q4_0").apply(disk, windows, work=tmp_path / "work")
    assert set(streamed.packed) == set(memory.anatomy.matrices())
    in_memory = Quantize(default="q4_0").apply(memory, windows)
    name = "model.layers.2.mlp.down_proj.weight"
    assert torch.equal(streamed.packed[name].data, streamed.packed[name].data)
    same = [torch.equal(streamed.packed[each].data, in_memory.packed[each].data) for each in streamed.packed]
    assert not all(same), "the embedding's own share of the cost is left out"


class Stop(Exception):
    pass


@pytest.mark.parametrize("stopped", [1, 3, 6, 8, 13, 19, 22])
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(stopped, folder_of, windows, tmp_path):
    folder, operation = folder_of(), Quantize(default="q4_0")

    def stop(event: Event) -> None:
        if event.stage == "quantizing" and event.done == stopped:
            raise Stop

    whole = operation.apply(open_local(local_of(folder)), windows, work=tmp_path / "whole")
    with pytest.raises(Stop):
        operation.apply(open_local(local_of(folder)), windows, work=tmp_path / "parts", progress=stop)
    seen: list[float] = []
    again = operation.apply(
        open_local(local_of(folder)),
        windows,
        work=tmp_path / "parts",
        progress=lambda event: seen.append(event.done) if event.stage == "quantizing" else None,
    )
    # One matrix each for embedding and head, seven for each of the three blocks: finished parts are not done again.
    finished = 0 if stopped == 1 else 1 + 7 * ((stopped - 2) // 7)
    assert seen == [*range(finished + 1, 24)]
    assert digest(whole, tmp_path / "a.gguf") == digest(again, tmp_path / "b.gguf")


def test_a_finished_run_is_not_done_again(folder_of, windows, tmp_path):
    folder, operation = folder_of("phimoe"), Quantize(default="q4_0")
    first = operation.apply(open_local(local_of(folder)), windows, work=tmp_path / "work")
    seen: list[float] = []
    again = operation.apply(
        open_local(local_of(folder)), windows, work=tmp_path / "work", progress=lambda event: seen.append(event.done)
    )
    assert seen in ([], [0.0])  # nothing but the note on experts
    assert first.lineage == again.lineage
    assert digest(first, tmp_path / "a.gguf") == digest(again, tmp_path / "b.gguf")


def test_another_run_starts_anew_in_the_same_folder(folder_of, windows, tmp_path):
    folder = folder_of()
    Quantize(default="q4_0").apply(open_local(local_of(folder)), windows, work=tmp_path / "work")
    other = Quantize(default="q8_0").apply(open_local(local_of(folder)), windows, work=tmp_path / "work")
    assert {stored.format for stored in other.packed.values()} == {"q8_0"}
    expected = Quantize(default="q8_0").apply(load_local(local_of(folder)), windows)
    assert digest(expected, tmp_path / "a.gguf") == digest(other, tmp_path / "b.gguf")


def test_a_folder_of_something_else_is_left_alone(folder_of, windows, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.safetensors").write_text("dear")
    model = open_local(local_of(folder_of()))
    with pytest.raises(InvalidInput, match="not empty"):
        Quantize(default="q4_0").apply(model, windows, work=tmp_path / "mine")
    assert (tmp_path / "mine" / "letter.safetensors").read_text() == "dear"
    with pytest.raises(InvalidInput, match="none is named"):
        Quantize(default="q4_0").apply(model, windows)


def test_no_more_than_one_block_is_in_memory(folder_of, windows, tmp_path, monkeypatch):
    model = open_local(local_of(folder_of(num_hidden_layers=4)))
    assert isinstance(model, StreamedModel)
    most = []
    load = StreamedModel.load

    def watched(self, block):
        load(self, block)
        matrices = self.anatomy.matrices()
        most.append(
            [name for name, value in self.module.named_parameters() if name in matrices and value.device.type != "meta"]
        )

    monkeypatch.setattr(StreamedModel, "load", watched)
    Quantize(default="q4_0").apply(model, windows, work=tmp_path / "work")
    assert len(most) == 4
    for index, held in enumerate(most):
        # The embedding holds the rows of the tokens that occur.
        assert {name for name in held if name != "model.embed_tokens.weight"} == {
            projection.weight for projection in model.anatomy.blocks[index].projections.values()
        }
    held = [value for value in model.module.parameters() if value.dim() > 1]
    assert all(value.device.type == "meta" for value in held)


def test_what_lies_in_several_files_is_found_through_the_index(folder_of, windows, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = folder_of()
    expected = Quantize(default="q4_0").apply(load_local(local_of(folder)), windows)
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {name: f"model-{number % 3}.safetensors" for number, name in enumerate(sorted(state))}
    for file in set(places.values()):
        save_file({name: state[name] for name in places if places[name] == file}, folder / file)
    (folder / INDEX).write_text(json.dumps({"weight_map": places}))
    streamed = Quantize(default="q4_0").apply(open_local(local_of(folder)), windows, work=tmp_path / "work")
    assert digest(expected, tmp_path / "a.gguf") == digest(streamed, tmp_path / "b.gguf")

    (folder / "model-1.safetensors").write_bytes(b"short")
    with pytest.raises(DamagedFile):
        open_local(local_of(folder))
    (folder / INDEX).write_text("{}")
    with pytest.raises(DamagedFile, match="where the weights are"):
        open_local(local_of(folder))


def test_weights_laid_out_otherwise_are_refused(folder_of):
    from safetensors.torch import load_file, save_file

    folder = folder_of()
    state = load_file(folder / "model.safetensors")
    state["other"] = state.pop("model.layers.0.mlp.up_proj.weight")
    save_file(state, folder / "model.safetensors")
    with pytest.raises(Unsupported, match="up_proj"):
        open_local(local_of(folder))


def test_the_origin_is_the_one_of_a_model_in_memory(folder_of):
    local = replace(local_of(folder_of()), licence="mit", base_model="org/name")
    assert open_local(local).lineage == load_local(local).lineage


def test_the_memory_foretold_does_not_grow_with_depth(tiny_model):
    few, many = (tiny_model(num_hidden_layers=layers, tie_word_embeddings=False) for layers in (1, 6))
    for solver in ("gptq", "nearest"):
        assert memory_bytes(few, 1000, solver) == memory_bytes(many, 1000, solver) < memory_bytes(few, 9000, solver)
    assert memory_bytes(few, 1000, "nearest") < memory_bytes(few, 1000, "gptq")
