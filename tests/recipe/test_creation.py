"""What goes with a created model: adapters, drafts, projectors, and the engine that puts them on."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from smidgen.errors import InvalidInput, SmidgenError, Unsupported
from smidgen.export import adapter as adapter_file
from smidgen.export import gguf, safetensors
from smidgen.inference.engine import open_engine
from smidgen.inference.options import GenerationOptions
from smidgen.inference.setup import Setup
from smidgen.models.checkpoint.gguf import read
from smidgen.models.modelfile import Modelfile
from smidgen.models.reference import parse
from smidgen.models.sources import fetch
from smidgen.models.store import Store
from smidgen.recipe.create import Creation, create
from smidgen.shrink.finetune.adapters import Adapter

tiny_projector = runpy.run_path(str(Path(__file__).parents[1] / "tiny_projector.py"))
build_model = runpy.run_path(str(Path(__file__).parents[1] / "shrink" / "conftest.py"))["build_model"]
GREEDY = GenerationOptions(temperature=0, num_predict=8, num_thread=1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base as a GGUF, an adapter as PEFT's folder and as GGUF, and a DoRA. Read only."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("base")
    model = build_model()
    gguf.write(model, folder / "base.gguf", float_format="float32")
    safetensors.write(model, folder / "base", dtype="float32")
    path = model.anatomy.blocks[0].projections["down"].path
    shape = model.weight(f"{path}.weight").shape
    torch.manual_seed(1)
    weights = {
        f"base_model.model.{path}.lora_A.weight": torch.randn(4, shape[1]),
        f"base_model.model.{path}.lora_B.weight": torch.randn(shape[0], 4),
    }
    lora = Adapter(4, 8.0, (path,), weights=weights)
    adapter_file.write(lora, model, folder / "lora")
    length = model.weight(f"{path}.weight").norm(dim=1)
    magnitude = {f"base_model.model.{path}.lora_magnitude_vector": length * 2}
    adapter_file.write(replace(lora, decomposed=True, weights=weights | magnitude), model, folder / "dora")
    return folder


def answer(store: Store, name: str) -> str:
    local = fetch(parse(name, store), store)
    with open_engine(local.path, threads=1, context=64, adapters=Setup.of(local).adapters) as engine:
        return "".join(chunk.text for chunk in engine.complete("def main", GREEDY))


@pytest.fixture
def made(tmp_path: Path, base: Path) -> Callable[..., Any]:
    store = Store(tmp_path / "store")

    def make(name: str, **said: Any) -> Any:
        modelfile = Modelfile(**{"source": "base.gguf", **said})
        return create(Creation(name, modelfile, base), store), store

    return make


def test_an_adapter_is_kept_apart_and_put_on_by_the_engine(made: Callable[..., Any], base: Path) -> None:
    plain, store = made("plain")
    by_file, _ = made("by-file", adapters=("lora/adapter.gguf",))
    by_folder, _ = made("by-folder", adapters=("lora",))
    assert by_file.digests["model.gguf"] == by_folder.digests["model.gguf"] == plain.digests["model.gguf"]
    assert by_file.facts["adapters"] == by_folder.facts["adapters"] == ["adapter-0.gguf"]
    without, first, second = (answer(store, name) for name in ("plain", "by-file", "by-folder"))
    assert first == second != without
    child, _ = made("child", source=str(by_file.folder / "model.gguf"))
    assert "adapters" not in child.facts
    heir = create(Creation("heir", Modelfile("by-file")), store)
    assert heir.digests["adapter-0.gguf"] == by_file.digests["adapter-0.gguf"] and answer(store, "heir") == first


def test_what_the_engine_cannot_put_on_is_merged(made: Callable[..., Any]) -> None:
    plain, store = made("plain")
    merged, _ = made("merged", source="base", adapters=("dora",))
    assert "adapters" not in merged.facts and merged.digests["model.gguf"] != plain.digests["model.gguf"]
    assert "smidgen.json" in merged.digests and answer(store, "merged") != answer(store, "plain")


def test_a_draft_comes_along_where_it_has_the_same_vocabulary(
    made: Callable[..., Any], base: Path, tmp_path: Path
) -> None:
    with_draft, store = made("with-draft", draft="base.gguf")
    assert with_draft.facts["draft"] == "draft.gguf" and "DRAFT ./draft.gguf" in with_draft.facts["modelfile"]
    assert Setup.of(fetch(parse("with-draft", store), store)).draft == with_draft.folder / "draft.gguf"
    small = create(
        Creation("small", Modelfile("base.gguf", draft="base"), base, quantize="q8_0", draft_quantize="q4_0"), store
    )
    assert {each.format for each in read(small.folder / "draft.gguf").tensors.values()} >= {"Q4_0"}
    gguf.write(build_model(vocab_size=300), tmp_path / "other.gguf")
    with pytest.raises(Unsupported, match="another vocabulary"):
        made("x", draft=str(tmp_path / "other.gguf"))


def test_a_projector_comes_along(made: Callable[..., Any], tmp_path: Path) -> None:
    eyes = tiny_projector["write"](tmp_path / "eyes.gguf", 64)
    seeing, store = made("seeing", projectors=(str(eyes),))
    assert seeing.facts["projectors"] == ["projector-0.gguf"]
    assert (seeing.folder / "projector-0.gguf").read_bytes() == eyes.read_bytes()
    heir = create(Creation("heir", Modelfile("seeing")), store)
    assert Setup.of(fetch(parse("heir", store), store)).projector == heir.folder / "projector-0.gguf"
    with pytest.raises(InvalidInput, match="further FROM"):
        made("x", projectors=("none.gguf",))
    with pytest.raises(InvalidInput, match="does not turn images"):
        made("x", projectors=("base.gguf",))
    with pytest.raises(InvalidInput, match="only turns images"):
        made("x", source=str(eyes), projectors=("base.gguf",))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("f32", {"F32"}),
        ("bf16", {"BF16", "F32"}),
        ("q4_0", {"Q4_0", "Q4_1", "Q8_0", "F32"}),
        ("mxfp4", {"MXFP4", "F32"}),
    ],
)
def test_weights_are_stored_as_the_named_type_says(base: Path, tmp_path: Path, kind: str, expected: set[str]) -> None:
    store = Store(tmp_path / "store")
    stored = create(Creation("x", Modelfile("base"), base, quantize=kind.upper()), store)
    found = {each.format for each in read(stored.folder / "model.gguf").tensors.values()}
    assert found <= expected and found - {"F32"} == found & (expected - {"F32"}) and len(found) >= min(2, len(expected))


def test_a_stopped_creation_leaves_nothing(base: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")

    class Stopped(SmidgenError):
        pass

    def stop(event: Any) -> None:
        if event.stage.startswith("quantizing"):
            raise Stopped("stopped")

    with pytest.raises(Stopped):
        create(Creation("x", Modelfile("base"), base, quantize="q8_0"), store, progress=stop)
    assert store.names() == () and not list(store.root.glob(".tmp-*"))
