"""One stored model, read at several depths: by name, in memory, and from the command line."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from smidgen.cli.main import main
from smidgen.errors import Unsupported
from smidgen.export import packed, safetensors
from smidgen.inference.engine import open_engine
from smidgen.models.facts import inspect
from smidgen.models.load import load
from smidgen.models.packed import held_bytes, read_folder
from smidgen.models.reference import parse
from smidgen.models.sources import fetch
from smidgen.models.store import Store
from smidgen.shrink.quantize.quantize import Quantize

build_model = runpy.run_path(str(Path(__file__).parents[1] / "shrink" / "conftest.py"))["build_model"]
IDS = torch.randint(3, 400, (1, 24), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=["hierarchical:bits=6", "tiers:high=6,middle=5,low=4"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("depth") / "small"
    packed.write(Quantize(default=request.param, solver="nearest").apply(build_model(), IDS), path, dtype="float32")
    return path


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.module(IDS).logits
    return found


def test_fewer_bits_are_less_memory_and_further_from_the_source(folder: Path) -> None:
    whole, source = read_folder(folder, torch.float32, hold=True), build_model()
    errors, sizes = [], []
    for depth in (6, 4, 3, 2):
        shallow = read_folder(folder, torch.float32, hold=True, depth=depth)
        errors.append(float((logits(shallow) - logits(source)).square().mean()))
        sizes.append(held_bytes(shallow.module))
    assert errors == sorted(errors) and sizes == sorted(sizes, reverse=True) and sizes[-1] < 0.62 * sizes[0]
    torch.testing.assert_close(logits(read_folder(folder, torch.float32, depth=6)), logits(whole), atol=1e-4, rtol=1e-4)


def test_names_ask_for_a_depth(folder: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    reference = parse(f"{folder}@3bit", store)
    assert reference.depth == 3 and reference.path == folder and str(reference).endswith("small@3bit")
    assert parse("org/name@4bit", store).depth is None and parse("org/name@4bit", store).revision == "4bit"
    local = fetch(reference, store)
    facts, whole = inspect(local), inspect(fetch(parse(str(folder), store), store))
    assert facts.depth == 3 and facts.bits_per_weight < whole.bits_per_weight - 1
    assert facts.parameters == whole.parameters
    expected = read_folder(folder, torch.float32, depth=3)
    assert torch.equal(logits(load(f"{folder}@3bit")), logits(expected))
    with open_engine(f"{folder}@3bit", threads=1) as engine:
        assert torch.equal(
            logits(engine._library.model), logits(read_folder(folder, torch.float32, hold=True, depth=3))
        )


def test_it_runs_from_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = {}
    for name in (str(folder), f"{folder}@2bit"):
        words = ["run", name, "Words", "--raw", "--temperature", "0", "--num-predict", "6", "--json", "--quiet"]
        assert main([*words, "--threads", "1"]) == 0, capsys.readouterr().err
        answers[name] = json.loads(capsys.readouterr().out)["response"]
    assert len(set(answers.values())) == 2


def test_depths_that_are_not_there_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Unsupported, match="is read at 2 to 6 bits, not 8"):
        load(f"{folder}@8bit")
    packed.write(Quantize(default="integer", solver="nearest").apply(build_model(), IDS), tmp_path / "integer")
    with pytest.raises(Unsupported, match="whole or not at all"):
        load(f"{tmp_path / 'integer'}@4bit")
    safetensors.write(build_model(), tmp_path / "floats")
    assert main(["run", f"{tmp_path / 'floats'}@4bit", "Hi", "--quiet"]) == 2
    assert "not stored hierarchically" in capsys.readouterr().err
