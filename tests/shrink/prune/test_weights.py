"""Single weights go where the pattern allows, and those that stay make up for them."""

import numpy as np
import pytest
import torch

from smidgen import divergence
from smidgen.errors import InvalidInput
from smidgen.shrink.hessian import inverse_factor
from smidgen.shrink.prune import weights as module
from smidgen.shrink.prune.compensation import compensate
from smidgen.shrink.prune.criteria.sparsegpt import Sparsegpt
from smidgen.shrink.prune.prune import Prune
from smidgen.shrink.prune.structures.synapse import Synapse
from smidgen.shrink.prune.structures.weight import Weight


@pytest.fixture(autouse=True)
def plain_arithmetic(monkeypatch):
    from smidgen.shrink import precision

    monkeypatch.setattr(precision, "_fast_bfloat16", lambda: False)


def problem(seed, rows=8, columns=6, tokens=60):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(tokens, columns, generator=generator) @ torch.randn(columns, columns, generator=generator)
    return torch.randn(rows, columns, generator=generator), inputs.T @ inputs / tokens


def error(change, hessian):
    return float(((change.double() @ hessian.double()) * change).sum())


def logits(model, windows):
    with torch.no_grad():
        return model.module(input_ids=windows, use_cache=False).logits.float().flatten(0, 1)


def test_removing_one_column_gives_the_best_that_the_later_ones_can_do():
    """Against least squares: with the first input gone the others are free to change."""
    weight, hessian = problem(1)
    goes = torch.ones(8, 6, dtype=torch.bool)
    goes[:, 0] = False
    found = compensate(
        weight, inverse_factor(hessian, 1e-9), lambda values, _, first: goes[:, first : first + values.shape[1]]
    )
    rest = np.linalg.solve(hessian[1:, 1:].double().numpy(), (hessian[1:] @ weight.T).double().numpy()).T
    np.testing.assert_allclose(found[:, 1:].numpy(), rest, rtol=2e-3, atol=2e-3)
    assert not found[:, 0].any()


@pytest.mark.parametrize("group", [4, 24])
def test_making_up_lies_between_zeroing_and_the_best_there_is(group):
    """It settles one column after the other, so single problems can turn out worse than zeroing, and most do not."""
    ratios = []
    for seed in range(20):
        weight, hessian = problem(seed, columns=24, tokens=200)
        stays = torch.rand(8, 24, generator=torch.Generator().manual_seed(seed + 100)) > 0.2
        found = compensate(
            weight,
            inverse_factor(hessian),
            lambda values, _, first, stays=stays: stays[:, first : first + values.shape[1]],
            group=group,
        )
        assert not found[~stays].any()
        best = torch.zeros(8, 24, dtype=torch.float64)
        for row, kept in enumerate(stays):
            inner, outer = hessian[kept][:, kept].double(), (hessian[kept] @ weight[row]).double()
            best[row, kept] = torch.linalg.solve(inner, outer)
        assert error(found - weight, hessian) >= error(best - weight, hessian) * (1 - 1e-6)
        ratios.append(error(found - weight, hessian) / error(weight.masked_fill(~stays, 0) - weight, hessian))
    assert sorted(ratios)[10] < 0.8 and sum(ratio > 1 for ratio in ratios) <= 5


def test_groups_are_decided_on_values_that_were_changed_before():
    weight, hessian = problem(2)
    seen = []

    def stays(values, diagonal, first):
        seen.append((first, values.clone(), diagonal.clone()))
        return torch.zeros_like(values, dtype=torch.bool) if first == 0 else torch.ones_like(values, dtype=torch.bool)

    factor = inverse_factor(hessian)
    found = compensate(weight, factor, stays, group=2)
    assert [first for first, _, _ in seen] == [0, 2, 4]
    assert torch.equal(seen[0][1], weight[:, :2]) and not torch.allclose(seen[1][1], weight[:, 2:4])
    torch.testing.assert_close(found[:, 2:4], seen[1][1])
    assert all(torch.equal(diagonal, factor.diagonal()[first : first + 2]) for first, _, diagonal in seen)


@pytest.mark.parametrize("sparsity", [0.1, 0.3, 0.5, 0.77])
def test_groups_of_a_row_together_lose_what_the_row_is_to_lose(sparsity):
    scores = torch.rand(4, 300)
    for per in ("row", "layer"):
        parts = [Weight(per).stays(scores[:, first : first + 128], sparsity, first) for first in (0, 128, 256)]
        gone = ~torch.cat(parts, dim=1)
        assert int(gone.sum()) == pytest.approx(sparsity * 1200, abs=2)
        if per == "row":
            assert gone.sum(1).tolist() == [round(sparsity * 300)] * 4


@pytest.mark.parametrize(("pattern", "stay", "of"), [("2:4", 2, 4), ("4:8", 4, 8), ("1:4", 1, 4)])
def test_a_pattern_holds_in_every_group(tiny_model, windows, pattern, stay, of):
    for criterion in ("wanda", "sparsegpt"):
        result = Prune("synapse", criterion, pattern=pattern).apply(tiny_model(), windows)
        for name, part in result.anatomy.matrices().items():
            if part in ("attention", "mlp"):
                filled = (result.weight(name) != 0).reshape(-1, of).sum(1)
                assert int(filled.max()) <= stay and float(filled.float().mean()) > stay - 0.01


def test_repair_and_a_better_criterion_do_less_damage(tiny_model, windows):
    model = tiny_model()
    source = logits(model, windows)

    def damage(criterion, **options):
        result = Prune("weight", criterion, sparsity=0.5, **options).apply(model, windows)
        return float(divergence.kl(source, logits(result, windows)).mean())

    assert max(damage("sparsegpt"), damage("wanda")) < damage("wanda", repair=False) < damage("l1", repair=False)
    assert damage("l1") < damage("l1", repair=False)


def test_every_matrix_sees_what_its_pruned_predecessors_produce(tiny_model, windows, monkeypatch):
    model, seen = tiny_model(), {}
    original = module._Work.prune

    def spy(self, names, second_moment, hessian):
        seen[names[0]] = second_moment
        original(self, names, second_moment, hessian)

    monkeypatch.setattr(module._Work, "prune", spy)
    result = Prune("weight", "wanda", sparsity=0.5, repair=False).apply(model, windows)
    name = "model.layers.2.mlp.down_proj"
    read = []
    handle = result.module.get_submodule(name).register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    logits(result, windows)
    handle.remove()
    torch.testing.assert_close(seen[f"{name}.weight"], read[0].square().mean((0, 1)), rtol=1e-4, atol=1e-5)


def test_rounds_end_at_the_share_asked_for(tiny_model, windows):
    result = Prune("weight", "l1", sparsity=0.6, rounds=3).apply(tiny_model(), windows)
    weight = result.weight("model.layers.1.mlp.up_proj.weight")
    assert float((weight == 0).float().mean()) == pytest.approx(0.6, abs=0.01)
    assert result.lineage.steps[-1].parameters["rounds"] == 3 and len(result.lineage.steps) == 1


def test_an_uneven_share_follows_the_outliers(tiny_model, windows):
    model = tiny_model()
    with torch.no_grad():
        model.weight("model.layers.1.mlp.up_proj.weight")[:, ::9] *= 20
    result = Prune("weight", "wanda", sparsity=0.5, uneven=True).apply(model, windows)
    shares = []
    for block in result.anatomy.blocks:
        values = torch.cat([result.weight(each.weight).flatten() for each in block.projections.values()])
        shares.append(float((values == 0).float().mean()))
    assert min(shares) == shares[1] < 0.47 and sum(shares) / 3 == pytest.approx(0.5, abs=0.005)


def test_zeros_without_text_are_those_of_the_smallest_weights(tiny_model, windows):
    model = tiny_model()
    result = Prune("weight", "l1", sparsity=0.25, repair=False, per="layer").apply(model, windows)
    name = "model.layers.0.self_attn.q_proj.weight"
    before, after = model.weight(name).detach(), result.weight(name).detach()
    assert float(before[after == 0].abs().max()) <= float(before[after != 0].abs().min())
    assert torch.equal(before[after != 0], after[after != 0])


def test_scores_are_the_formulas():
    weight, hessian = problem(3)
    inverse = np.linalg.inv(hessian[-1:, -1:].double().numpy())
    scores = Sparsegpt().score_weights(weight, module.WeightEvidence(hessian.diag(), hessian))
    # Of the last column nothing is left to make up: w² / [H⁻¹] of that input alone, but for the damping.
    np.testing.assert_allclose(scores[:, -1].numpy(), (weight[:, -1] ** 2 / inverse[0, 0]).numpy(), rtol=0.03)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"structure": "weight"}, "sparsity of None"),
        ({"structure": "weight", "sparsity": 1.0}, "sparsity of 1.0"),
        ({"structure": "weight", "sparsity": 0.5, "keep": 3}, "takes no 'keep'"),
        ({"structure": "weight", "sparsity": 0.5, "per": "column"}, "per 'column'"),
        ({"structure": "weight", "sparsity": 0.5, "pattern": "4:8"}, "'pattern' does not go"),
        ({"structure": "synapse", "pattern": "2/4"}, "is no pattern"),
        ({"structure": "synapse", "pattern": "4:4"}, "removes nothing, or all"),
        ({"structure": "synapse", "rounds": 2}, "'rounds' does not go"),
        ({"structure": "neuron", "keep": 32, "sparsity": 0.5}, "'sparsity' does not go"),
        ({"structure": "neuron"}, "Nothing says how many"),
        ({"structure": "neuron", "keep": 32, "rounds": 0}, "0 rounds"),
        ({"structure": "layer", "keep": 2, "uneven": True}, "'uneven' does not go"),
        ({"structure": "width", "keep": 32, "allocation": (1,)}, "'allocation' does not go"),
        ({"structure": "head", "allocation": (-1, 2)}, "0 or more"),
        ({"structure": "neuron", "keep": 32, "whole_groups": True}, "'whole_groups' does not go"),
        ({"structure": "width", "keep": 32, "multiple": 48}, "multiples of 48"),
        ({"structure": "head", "keep": 32, "multiple": 64}, "'multiple' does not go"),
        ({"structure": "layer", "keep": 2, "keep_language": "en"}, "'keep_language' does not go"),
    ],
)
def test_options_that_do_not_go_together_are_refused(fields, said):
    with pytest.raises(InvalidInput, match=said):
        Prune(**fields)


def test_a_pattern_that_does_not_divide_the_rows_is_refused(tiny_model, windows):
    with pytest.raises(InvalidInput, match="does not divide rows of 64"):
        Prune("synapse", "l1", pattern="2:5").apply(tiny_model(), windows)
    assert Synapse("2:4").sparsity(0.9) == 0.5


def test_healing_keeps_the_zeros(tiny_model, windows):
    from smidgen.shrink.distill.distill import Distill

    model = tiny_model()
    assert not model.lineage.has_pruned_weights
    pruned = Prune("synapse", "wanda").apply(model, windows)
    healed = Distill(steps=3, batch_size=2, learning_rate=1e-3).apply(pruned, model, windows, windows[:0])
    name = "model.layers.1.mlp.down_proj.weight"
    assert not healed.weight(name)[pruned.weight(name) == 0].any()
    assert not torch.equal(healed.weight(name), pruned.weight(name))
