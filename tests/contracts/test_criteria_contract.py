"""What every pruning criterion promises."""

import inspect
import runpy
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import torch

from smidgen.shrink.prune import criteria, structures
from smidgen.shrink.prune.criteria import Evidence
from smidgen.shrink.statistics import collect

build_model = runpy.run_path(str(Path(__file__).parents[1] / "shrink" / "conftest.py"))["build_model"]
SHAPES = {"layer": (3,), "neuron": (3, 128), "vocabulary": (400,)}
PAIRS = [(name, structure) for name in criteria.names() for structure in criteria.find(name).structures]


def test_the_sweep_found_every_criterion():
    assert criteria.names() == ("activation", "block_influence", "l2", "loss", "use")
    assert len(PAIRS) == 7
    for structure in structures.names():
        assert criteria.names_for(structure)


@pytest.mark.parametrize(("name", "structure"), PAIRS)
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_scores_are_finite_not_negative_and_one_for_each_part(name, structure, family):
    model, criterion = build_model(family, dtype=torch.bfloat16), criteria.find(name)
    windows = torch.randint(3, 400, (3, 24), generator=torch.Generator().manual_seed(2))
    sites = (
        None
        if criterion.needs is None
        else [f"{block.path}.{role}" for block in model.anatomy.blocks for role in criterion.needs]
    )
    statistics = None if sites is None else collect(model, windows, sites=sites)
    evidence = Evidence(windows, statistics)
    scores = criterion.score(model, structure, evidence)
    assert scores.shape == SHAPES[structure] and scores.dtype == torch.float32 and scores.device.type == "cpu"
    assert scores.isfinite().all() and (scores >= 0).all() and not scores.requires_grad
    assert len(scores.unique()) > 1
    assert torch.equal(scores, criterion.score(model, structure, evidence))


@pytest.mark.parametrize("name", criteria.names())
def test_a_criterion_is_a_documented_frozen_dataclass(name):
    criterion = criteria.find(name)
    kind = type(criterion)
    assert is_dataclass(criterion) and kind.__dataclass_params__.frozen
    assert ">>>" in inspect.getdoc(kind) + inspect.getsource(inspect.getmodule(kind))
    assert set(criterion.structures) <= set(structures.names()) and criterion.structures
    assert all(field.name in inspect.getdoc(kind) for field in fields(criterion))
