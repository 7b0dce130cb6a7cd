"""What every structure that can be pruned promises."""

import inspect
import runpy
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import torch

from smidgen.shrink.prune import criteria, structures
from smidgen.shrink.prune.prune import Prune

build_model = runpy.run_path(str(Path(__file__).parents[1] / "shrink" / "conftest.py"))["build_model"]
KEEP = {"layer": 2, "neuron": 64, "vocabulary": 512, "head": 2, "width": 32, "expert": 3}
SHAPES = {"layer": (3,), "neuron": (3, 128), "vocabulary": (1024,), "head": (3, 4), "width": (64,), "expert": (3, 5)}
EXPERTS = {"num_local_experts": 5, "attention_bias": True, "lm_head_bias": True}
WEIGHTS = ("synapse", "weight")
WINDOWS = torch.arange(3, 67).view(2, 32)


def shape(name, family):
    return (15, 128) if (name, family) == ("neuron", "phimoe") else SHAPES[name]


def scores(name, family="llama"):
    return torch.rand(shape(name, family), generator=torch.Generator().manual_seed(3))


def build(family, **changes):
    return build_model(family, **changes, **(EXPERTS if family == "phimoe" else {}))


def test_the_sweep_found_every_structure():
    files = {path.stem for path in Path(structures.__path__[0]).glob("*.py") if not path.stem.startswith("_")}
    assert set(structures.names()) == files == {*KEEP, *WEIGHTS} and len(files) == 8


@pytest.mark.parametrize("family", ["llama", "qwen2", "phimoe"])
@pytest.mark.parametrize(("name", "tied"), [(name, tied) for name in KEEP for tied in (True, False)])
def test_removing_gives_the_smaller_model_that_was_foretold(name, family, tied):
    family = "phimoe" if name == "expert" else family
    model, structure = build(family, vocab_size=1024, tie_word_embeddings=tied), structures.find(name)
    kept = structure.select(model, scores(name, family), KEEP[name])
    assert kept.dtype == torch.long and kept.shape == (*shape(name, family)[:-1], KEEP[name])
    assert (kept.diff(dim=-1) > 0).all()
    result = structure.remove(model, kept)
    saved = model.parameter_count() - result.parameter_count()
    assert saved == structure.parameters_saved(model, KEEP[name]) > 0
    assert structure.size(result.anatomy) == KEEP[name] < structure.size(model.anatomy)
    assert KEEP[name] % structure.step(model.anatomy) == 0 and structure.least(model) <= KEEP[name]
    with torch.no_grad():
        logits = result.module(input_ids=WINDOWS).logits
    assert logits.isfinite().all() and logits.shape[-1] == result.config.vocab_size
    check_own_weights(model, result)


def check_own_weights(model, result):
    """The result is whole, and shares no weight with the model it was made of."""
    tensors = [*result.module.named_parameters(), *result.module.named_buffers()]
    assert not any(value.is_meta for _, value in tensors)
    assert result.module.training == model.module.training
    given = {parameter.data_ptr() for parameter in model.module.parameters()}
    assert given.isdisjoint(parameter.data_ptr() for parameter in result.module.parameters())


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("criterion", ["l1", "sparsegpt"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "phimoe"])
def test_single_weights_leave_the_shape_and_say_so(name, criterion, family):
    model = build(family)
    options = {"sparsity": 0.5} if name == "weight" else {"pattern": "2:4"}
    result = Prune(name, criterion, **options).apply(model, WINDOWS)
    assert result.parameter_count() == model.parameter_count()
    assert structures.find(name).parameters_saved(model, 1) == 0
    for matrix, part in model.anatomy.matrices().items():
        zero = float((result.weight(matrix) == 0).float().mean())
        assert zero == pytest.approx(0.5) if part in ("attention", "mlp") else zero < 0.01
    assert "50.0% of the blocks' weights" in result.lineage.steps[-1].note
    assert "same size and same speed unless stored sparse" in result.lineage.steps[-1].note
    check_own_weights(model, result)


@pytest.mark.parametrize("name", KEEP)
def test_the_highest_scores_stay(name):
    family = "phimoe" if name == "expert" else "llama"
    model, structure, values = build(family, vocab_size=1024), structures.find(name), scores(name)
    kept = structure.select(model, values, KEEP[name])
    gone = torch.ones_like(values).scatter_(-1, kept, 0).bool()
    assert values.gather(-1, kept).mean() > values[gone].mean()
    best = values.argmax(-1, keepdim=True)
    assert (kept == best).any(-1).all()


@pytest.mark.parametrize("name", structures.names())
def test_a_structure_is_a_documented_frozen_dataclass(name):
    structure = structures.find(name)
    assert is_dataclass(structure) and type(structure).__dataclass_params__.frozen
    assert "keep" in inspect.getdoc(type(structure)) and structure.unit
    assert name in criteria.find(structure.criterion).structures
    assert all(field.name in inspect.getdoc(type(structure)) for field in fields(structure))
