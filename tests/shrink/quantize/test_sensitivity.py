"""The probed Fisher information against one computed the long way, and predictions against what is measured."""

from __future__ import annotations

import pytest
import torch

from smidgen import divergence
from smidgen.errors import InvalidInput
from smidgen.shrink.hessian import inverse_factor
from smidgen.shrink.quantize import sensitivity as sensitivity_file
from smidgen.shrink.quantize.sensitivity import costs_of, factors, head_moments, probe


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    """Compute in float32, so that what is tested is the mathematics."""
    from smidgen.shrink import precision

    monkeypatch.setattr(precision, "_fast_bfloat16", lambda: False)


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(3, 400, (1, 8), generator=torch.Generator().manual_seed(5))


def calm(tiny_model, **changes):
    """A model whose predictions are as uncertain as a trained one's, so that its Fisher information is smooth."""
    return tiny_model(**({"initializer_range": 0.08, "num_hidden_layers": 2} | changes))


def brute_force(model, tokens: torch.Tensor, path: str) -> torch.Tensor:
    """Σ_t E_y[g·gᵀ]/T of g = ∂log p_t(y)/∂(output of the module), summed over positions: exact, token by token."""
    outputs: list[torch.Tensor] = []

    def keep(module, inputs, output):
        outputs.append(output.detach().requires_grad_())
        return outputs[0]

    hook = model.module.get_submodule(path).register_forward_hook(keep)
    logits = model.module(tokens, use_cache=False).logits[0]
    hook.remove()
    width = outputs[0].shape[-1]
    total = torch.zeros(width, width)
    for row in logits:
        log_p = row.log_softmax(-1)
        for y in range(0, len(log_p)):
            (gradient,) = torch.autograd.grad(log_p[y], outputs[0], retain_graph=True)
            gradient = gradient[0]
            total += log_p[y].exp().detach() * gradient.T @ gradient
    return total / tokens.numel()


def averaged(model, tokens: torch.Tensor, seeds: int):
    return [probe(model, tokens, seed=seed) for seed in range(seeds)]


def test_the_probe_s_fisher_is_the_brute_force_one_on_average(tiny_model, tokens):
    model = calm(tiny_model, num_hidden_layers=1, attn_implementation="eager")
    tokens = tokens[:, :3]
    found = averaged(model, tokens, 400)
    path = model.anatomy.blocks[0].projections["value"].path
    expected = brute_force(model, tokens, path)
    rows = torch.stack([one.outputs[f"{path}.weight"] for one in found]).mean(0)
    assert float(rows.sum()) == pytest.approx(float(expected.trace()), rel=0.05)
    assert (rows - expected.diagonal()).norm() < 0.1 * rows.norm()

    expected = brute_force(model, tokens, model.anatomy.embedding)
    gram = torch.stack([one.embedding for one in found]).mean(0)
    assert float(gram.trace()) == pytest.approx(float(expected.trace()), rel=0.05)
    assert (gram - expected).norm() < 0.25 * gram.norm()  # the noise of 1,200 drawn labels in 4,096 entries


def test_inputs_and_tokens_are_counted(tiny_model, windows):
    model = calm(tiny_model)
    found = probe(model, windows[:2])
    assert found.tokens == 64
    assert torch.allclose(found.token_share, torch.bincount(windows[:2].flatten(), minlength=400) / 64)
    site = list(model.anatomy.sites())[3]
    kept = []
    hook = model.module.get_submodule(site.modules[0]).register_forward_pre_hook(lambda _, given: kept.append(given[0]))
    with torch.no_grad():
        logits = model.module(windows[:2], use_cache=False).logits
    hook.remove()
    inputs = kept[0].flatten(0, 1)
    assert torch.allclose(found.hessians[site.name], inputs.T @ inputs / 64, rtol=1e-3, atol=1e-5)
    probabilities = logits.flatten(0, 1).softmax(-1)
    spread = (probabilities * (1 - probabilities)).sum(0)
    assert torch.allclose(found.head, spread / spread.sum(), rtol=1e-3)
    assert set(found.outputs) == set(model.anatomy.matrices()) - {"model.embed_tokens.weight"}


def test_the_head_s_cost_is_the_definition_and_what_the_probe_finds(tiny_model, windows):
    model, windows = calm(tiny_model), windows[:2]
    with torch.no_grad():
        hidden = model.module.base_model(windows, use_cache=False).last_hidden_state.flatten(0, 1)
        probabilities = model.module.lm_head(hidden).softmax(-1)
    weighed = hidden * (probabilities * (1 - probabilities)).sum(-1, keepdim=True)
    expected = weighed.T @ hidden / len(hidden)
    assert torch.allclose(head_moments(model, windows), expected, rtol=1e-3, atol=1e-5)
    found = probe(model, windows)
    assert torch.allclose(found.hessians["head"], expected, rtol=1e-3, atol=1e-5)
    assert torch.allclose(found.tied_hessian, expected + found.embedding, rtol=1e-3, atol=1e-5)


def kl_of(model, changes, windows) -> float:
    with torch.no_grad():
        reference = model.module(windows, use_cache=False).logits.flatten(0, 1)
        work = model.clone()
        for name, change in changes.items():
            work.weight(name).add_(change)
        return float(divergence.kl(reference, work.module(windows, use_cache=False).logits.flatten(0, 1)).mean())


@pytest.mark.parametrize("role", ["query", "value", "output", "gate", "up", "down"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_small_change_costs_what_is_predicted(tiny_model, windows, role, tied):
    model = calm(tiny_model, tie_word_embeddings=tied)
    found = probe(model, windows)
    name = model.anatomy.blocks[1].projections[role].weight
    change = (
        0.03
        * float(model.weight(name).detach().std())
        * torch.randn(model.weight(name).shape, generator=torch.Generator().manual_seed(2))
    )
    hessian, total = costs_of(model, found, name)
    assert total == pytest.approx(float(found.outputs[name].sum()))
    predicted = 0.5 * float((found.outputs[name] * ((change @ hessian) * change).sum(1)).sum())
    # Attention averages the values of many positions, whose errors add up while what they carry does not: the factors
    # of Kronecker know nothing of it, and `factors` measures it.
    most = 5 if role == "value" else 2
    assert 0.5 < kl_of(model, {name: change}, windows) / predicted < most


@pytest.mark.parametrize("which", ["embedding", "head"])
def test_a_small_change_of_embedding_or_head_costs_what_is_predicted(tiny_model, windows, which):
    model = calm(tiny_model, tie_word_embeddings=False)
    found = probe(model, windows)
    name = f"{getattr(model.anatomy, which)}.weight"
    hessian, total = costs_of(model, found, name)
    assert total == 1
    change = (
        0.03
        * float(model.weight(name).detach().std())
        * torch.randn(model.weight(name).shape, generator=torch.Generator().manual_seed(2))
    )
    shares = found.token_share if which == "embedding" else found.head
    predicted = 0.5 * float((shares * ((change @ hessian) * change).sum(1)).sum())
    assert 0.5 < kl_of(model, {name: change}, windows) / predicted < 2


@pytest.mark.parametrize("tied", [True, False])
def test_factors_are_measured_over_predicted(tiny_model, windows, tied):
    model = calm(tiny_model, tie_word_embeddings=tied)
    found = probe(model, windows)
    off = factors(model, found, windows[:2], seed=9)
    assert set(off) == set(model.anatomy.matrices())
    blocks = model.anatomy.blocks
    for role in ("gate", "key"):  # one factor for all matrices of a role
        assert len({off[block.projections[role].weight] for block in blocks}) == 1
    names = [block.projections["gate"].weight for block in blocks]
    generator = torch.Generator().manual_seed(9)
    changes, predicted = {}, 0.0
    for name in names:
        weight = model.weight(name).detach()
        hessian, _ = costs_of(model, found, name)
        upper = inverse_factor(hessian)
        rounding = (
            torch.randn(weight.shape, generator=generator) * (sensitivity_file.NOISE * weight.square().mean()) ** 0.5
        )
        changes[name] = (rounding / upper.diagonal()) @ upper
        # Of ΔW = (ε/diag U)·U with H⁻¹ = UᵀU, on average ΔW·H·ΔWᵀ = Σ_j ε²/U_jj² for every row.
        variance = sensitivity_file.NOISE * float(weight.square().mean())
        predicted += 0.5 * variance * float(found.outputs[name].sum()) * float((1 / upper.diagonal() ** 2).sum())
    assert off[names[0]] == pytest.approx(kl_of(model, changes, windows[:2]) / predicted, rel=1e-3)
    assert all(value > 0 for value in off.values())


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_the_model_is_left_as_it_was(tiny_model, windows, family):
    model = tiny_model(family)
    model.weight("model.norm.weight").requires_grad_(False)
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    flags = {name: value.requires_grad for name, value in model.module.named_parameters()}
    found = probe(model, windows[:1])
    factors(model, found, windows[:1])
    assert {name: value.requires_grad for name, value in model.module.named_parameters()} == flags
    assert not all(flags.values()) and any(flags.values())
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())
    assert all(parameter.grad is None for parameter in model.module.parameters())
    assert not any(
        part._forward_hooks or part._forward_pre_hooks or part._backward_hooks for part in model.module.modules()
    )


def test_the_probe_is_repeatable_and_its_seed_counts(tiny_model, windows):
    model = calm(tiny_model)
    one, same, other = (probe(model, windows[:2], seed=seed) for seed in (1, 1, 2))
    name = model.anatomy.blocks[0].projections["up"].weight
    assert torch.equal(one.outputs[name], same.outputs[name])
    assert not torch.equal(one.outputs[name], other.outputs[name])


def test_a_model_that_predicts_no_numbers_is_refused_and_left_clean(tiny_model, windows):
    model = calm(tiny_model)
    with torch.no_grad():
        model.weight("model.norm.weight")[0] = float("nan")
    with pytest.raises(InvalidInput, match="not finite"):
        probe(model, windows[:1])
    assert all(parameter.requires_grad for parameter in model.module.parameters())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.module.modules())


@pytest.mark.parametrize("block", [32, 64])
def test_what_rounded_inputs_cost_is_foretold(tiny_model, windows, monkeypatch, block):
    monkeypatch.setattr(sensitivity_file, "INPUT_BLOCKS", (32, 64))
    monkeypatch.setattr(sensitivity_file, "INPUT_LEVELS", 7)  # coarse enough to be seen in float32
    model = calm(tiny_model)
    found = probe(model, windows)
    assert set(found.inputs) == {*found.outputs, f"{model.anatomy.embedding}.weight"}

    def rounded(module, inputs):
        blocks = inputs[0].unflatten(-1, (-1, block))
        scales = blocks.abs().amax(-1, keepdim=True) / 7
        return ((blocks / scales).round() * scales).flatten(-2)

    with torch.no_grad():
        before = model.module(windows, use_cache=False).logits.flatten(0, 1)
        for site in model.anatomy.sites():
            for path in site.modules:
                model.module.get_submodule(path).register_forward_pre_hook(rounded)
        after = model.module(windows, use_cache=False).logits.flatten(0, 1)
    foretold = sum(cost[block] for cost in found.inputs.values())
    assert foretold == pytest.approx(float(divergence.kl(before, after).mean()), rel=0.35)


def test_inputs_that_divide_into_no_blocks_cost_nothing(tiny_model, windows):
    found = probe(calm(tiny_model), windows[:1])
    assert all(cost[32] > 0 and cost[256] == 0 for cost in found.inputs.values())
