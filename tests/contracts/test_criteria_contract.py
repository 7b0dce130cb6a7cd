"""What every pruning criterion promises."""

import inspect
import runpy
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import torch

from smidgen.errors import InvalidInput
from smidgen.shrink.prune import criteria, structures
from smidgen.shrink.prune.criteria import Evidence, WeightEvidence
from smidgen.shrink.prune.cutting import gathered
from smidgen.shrink.prune.prune import Prune

build_model = runpy.run_path(str(Path(__file__).parents[1] / "shrink" / "conftest.py"))["build_model"]
SHAPES = {"layer": (3,), "head": (3, 4), "neuron": (3, 128), "width": (64,), "vocabulary": (400,), "expert": (3, 5)}
WEIGHTS = ("weight", "synapse")
PAIRS = [(name, structure) for name in criteria.names() for structure in criteria.find(name).structures]
PART_PAIRS = [pair for pair in PAIRS if pair[1] not in WEIGHTS]
WEIGHT_CRITERIA = [name for name in criteria.names() if set(WEIGHTS) & set(criteria.find(name).structures)]
WINDOWS = torch.randint(3, 400, (3, 24), generator=torch.Generator().manual_seed(2))


def test_the_sweep_found_every_criterion():
    files = {path.stem for path in Path(criteria.__path__[0]).glob("*.py") if not path.stem.startswith("_")}
    assert set(criteria.names()) == files and len(files) == 11
    assert len(PAIRS) == 41 and len(PART_PAIRS) == 31 and len(WEIGHT_CRITERIA) == 5
    assert {structure for _, structure in PAIRS} == set(structures.names())
    assert set(structures.names()) == {*SHAPES, *WEIGHTS}


@pytest.mark.parametrize(("name", "structure"), PART_PAIRS)
@pytest.mark.parametrize("family", ["llama", "qwen2", "phimoe"])
def test_scores_are_finite_not_negative_and_one_for_each_part(name, structure, family):
    family = "phimoe" if structure == "expert" else family
    changes = {"num_local_experts": 5, "attention_bias": True, "lm_head_bias": True} if family == "phimoe" else {}
    model, criterion = build_model(family, dtype=torch.bfloat16, **changes), criteria.find(name)
    statistics = gathered(model, structure, criterion.needs(structure), (), Evidence(WINDOWS))
    evidence = Evidence(WINDOWS, statistics)
    scores = criterion.score(model, structure, evidence)
    shape = (15, 128) if (structure, family) == ("neuron", "phimoe") else SHAPES[structure]
    assert scores.shape == shape and scores.dtype == torch.float32 and scores.device.type == "cpu"
    assert scores.isfinite().all() and (scores >= 0).all() and not scores.requires_grad
    assert len(scores.unique()) > 1
    assert torch.equal(scores, criterion.score(model, structure, evidence))


@pytest.mark.parametrize("name", WEIGHT_CRITERIA)
def test_scores_of_single_weights_are_finite_not_negative_and_of_the_matrix_shape(name):
    generator = torch.Generator().manual_seed(4)
    weight, inputs = torch.randn(8, 6, generator=generator), torch.randn(50, 6, generator=generator)
    hessian, gradient = inputs.T @ inputs / 50, torch.randn(8, 6, generator=generator)
    evidence = WeightEvidence(hessian.diag(), hessian, gradient)
    scores = criteria.find(name).score_weights(weight, evidence)
    assert scores.shape == weight.shape and scores.dtype == torch.float32
    assert scores.isfinite().all() and (scores >= 0).all() and len(scores.unique()) == 48
    assert torch.equal(scores, criteria.find(name).score_weights(weight, evidence))


@pytest.mark.parametrize("structure", structures.names())
def test_any_other_pair_is_refused_and_the_fitting_ones_named(structure):
    options = {"weight": {"sparsity": 0.5}, "synapse": {}}.get(structure, {"keep": 1})
    for name in criteria.names():
        if (name, structure) in PAIRS:
            assert Prune(structure, name, **options).criterion == name
            continue
        with pytest.raises(InvalidInput, match=f"{name!r} cannot score {structure}") as refusal:
            Prune(structure, name, **options)
        assert ", ".join(criteria.names_for(structure)) in refusal.value.remedy


@pytest.mark.parametrize("name", criteria.names())
def test_a_criterion_is_a_documented_frozen_dataclass(name):
    criterion = criteria.find(name)
    kind = type(criterion)
    assert is_dataclass(criterion) and kind.__dataclass_params__.frozen
    assert ">>>" in inspect.getdoc(kind) + inspect.getsource(inspect.getmodule(kind))
    assert set(criterion.structures) <= set(structures.names()) and criterion.structures
    assert all(field.name in inspect.getdoc(kind) for field in fields(criterion))
