"""A model with experts through the main job: experts go, what stays is healed and stored, and llama.cpp runs it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from smidgen.export import gguf
from smidgen.inference.engine import open_engine
from smidgen.inference.options import GenerationOptions
from smidgen.inference.scoring import PromptScorer
from smidgen.models.checkpoint import gguf as container
from smidgen.models.load import load
from smidgen.recipe.make import make
from smidgen.recipe.receipt import describe_file
from smidgen.recipe.shapes import Shape, candidates, table_of

EXPERTS = {"num_local_experts": 8, "num_hidden_layers": 1, "intermediate_size": 32, "tie_word_embeddings": False}
FIT = 72_000
"""Bytes that the whole model exceeds in the smallest format its rows allow: 82,464 without a single expert less."""


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model("phimoe", max_position_embeddings=512, initializer_range=0.08, **EXPERTS)


@pytest.fixture(scope="module")
def expert_source(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("experts") / "experts.gguf"
    gguf.write(model, path)
    return path


def check(outcome, experts: int) -> None:
    """Check that the folder's file runs, computes what its folder of weights does, and is described in full."""
    path, receipt = outcome.folder / "model.gguf", outcome.receipt
    assert container.read(path).metadata["phimoe.expert_count"] == experts
    parts = receipt["parts"]["after"]
    assert sum(parts.values()) == path.stat().st_size == receipt["result"]["bytes"] and min(parts.values()) > 0
    assert len([each for each in receipt["tensors"] if ".experts." in each["name"]]) == 3 * experts
    options = GenerationOptions.from_mapping({"temperature": 0, "num_predict": 4})
    with open_engine(path, threads=1, context=256) as engine:
        assert "".join(chunk.text for chunk in engine.complete("def parse(self):", options))
    made = load(str(path))
    ids = torch.randint(3, 400, (1, 24), generator=torch.Generator().manual_seed(0))
    with PromptScorer(path, threads=1, context=64) as scorer, torch.no_grad():
        found = torch.from_numpy(scorer.logits(ids[0].tolist()).copy())
        expected = made.module(ids, use_cache=False).logits[0]
    # llama.cpp rounds the inputs of packed matrices to 8 bits as well.
    assert float(torch.cosine_similarity(found.flatten(), expected.flatten(), dim=0)) > 0.99


def test_a_budget_that_needs_fewer_experts_is_met(expert_source, hurried, tmp_path):
    outcome = make(str(expert_source), fit=FIT, out=tmp_path / "made", threads=1)
    steps = [(step["operation"], step["parameters"]) for step in outcome.receipt["steps"]]
    assert outcome.met and outcome.receipt["result"]["bytes"] <= FIT
    assert steps[0] == ("prune", steps[0][1]) and steps[0][1]["structure"] == "expert" and steps[0][1]["keep"] <= 4
    assert [operation for operation, _ in steps] == ["prune", "distill", "quantize"]
    (shape,) = (
        each["value"]["shape"] for each in outcome.receipt["plan"]["decisions"] if each["name"].endswith("shape")
    )
    assert shape == {"layers": 1, "neurons": 32, "tokens": 400, "experts": steps[0][1]["keep"]}
    check(outcome, steps[0][1]["keep"])


def test_shapes_count_experts(model, tmp_path):
    assert candidates(model) == ([1], [32], [400], [8, 6, 4, 2])
    whole, shape = Shape.of(model.anatomy), Shape(1, 32, 400, 4)
    assert whole == Shape(1, 32, 400, 8) and shape.cuts(whole) == [("expert", 4)]
    assert shape.describe(whole) == "4 of 8 experts" and [step.operation for step in shape.steps(whole)] == ["prune"]
    assert Shape(**shape.to_dict()) == shape and "experts" not in Shape(1, 2, 3).to_dict()
    kept = table_of(shape, model, {name: [] for name in model.anatomy.matrices()})
    experts = [name for name in kept if ".experts." in name]
    assert len(experts) == 3 * 4 and not any(
        f".experts.{number}." in name for name in experts for number in (4, 5, 6, 7)
    )
    gguf.write(model, tmp_path / "whole.gguf")
    parts = describe_file(tmp_path / "whole.gguf", model, {})["parts"]
    assert sum(parts.values()) == (tmp_path / "whole.gguf").stat().st_size and min(parts.values()) > 0
