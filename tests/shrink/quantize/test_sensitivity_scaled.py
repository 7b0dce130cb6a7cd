"""What the output notices where logits are bounded and the embedding is scaled."""

from __future__ import annotations

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from smidgen import divergence
from smidgen.models import families
from smidgen.models.lineage import Lineage, Origin
from smidgen.models.model import Model
from smidgen.shrink.prune.criteria._chain import Chain, Judge
from smidgen.shrink.quantize.sensitivity import head_moments, probe


@pytest.fixture(scope="module")
def model(tiny_model) -> Model:
    """A Gemma 2 whose logits are bounded by 4, where they would reach 30."""
    config = Gemma2Config(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        query_pre_attn_scalar=32,
        intermediate_size=96,
        vocab_size=400,
        max_position_embeddings=128,
        final_logit_softcapping=4.0,
        initializer_range=0.3,
    )
    torch.manual_seed(0)
    module = Gemma2ForCausalLM(config).eval()
    family = families.for_architecture("Gemma2ForCausalLM")
    return Model(module, tiny_model().tokenizer, family, Lineage(Origin("tiny", "0" * 64, 1, 1)))


@pytest.fixture(scope="module")
def window() -> torch.Tensor:
    # Every token once and no padding, so that a row's gradient is a token's.
    return 1 + torch.randperm(399, generator=torch.Generator().manual_seed(1))[:64][None]


@torch.no_grad()
def test_a_heads_errors_count_by_the_slope_of_their_logits(model, window) -> None:
    """Columns of the head that are off by a little cost what `head_moments` says; unbounded it would be far more."""
    hidden = model.module.base_model(window).last_hidden_state[0]
    head = model.module.lm_head.weight
    logits = model.anatomy.logits(hidden @ head.T)
    probabilities = logits.softmax(-1)
    weighed = (probabilities * (1 - probabilities) * (1 - (logits / 4) ** 2) ** 2).sum(-1, keepdim=True)
    expected = (hidden * weighed).T @ hidden / 64
    torch.testing.assert_close(
        head_moments(model, window), expected, rtol=5e-2, atol=5e-2 * float(expected.abs().max())
    )
    noise = 1e-3 * torch.randn(head.shape, generator=torch.Generator().manual_seed(2))
    measured = float(divergence.kl(logits, model.anatomy.logits(hidden @ (head + noise).T)).mean())
    predicted = 0.5 * 1e-6 * float(head_moments(model, window).diagonal().sum())
    assert 0.7 < measured / predicted < 1.4
    flat = (probabilities * (1 - probabilities)).sum(-1, keepdim=True)
    assert 0.5 * 1e-6 * float(((hidden * flat).T @ hidden / 64).diagonal().sum()) > 1.5 * predicted


def test_an_embeddings_errors_count_as_much_as_they_are_scaled(model, window) -> None:
    found = probe(model, window)
    table = model.clone()
    weight = table.module.model.embed_tokens.weight
    logits = table.module(window).logits[0]
    probabilities = logits.detach().softmax(-1)
    drawn = torch.multinomial(probabilities, 1, generator=torch.Generator().manual_seed(0))[:, 0]
    table.module.lm_head.weight = torch.nn.Parameter(weight.detach().clone())  # the head's own gradient stays out
    loss = torch.nn.functional.cross_entropy(table.module(window).logits[0], drawn, reduction="sum")
    (rows,) = torch.autograd.grad(loss, weight)
    expected = rows.T @ rows / 64
    # The probe computes in bfloat16, and may draw another label now and then.
    assert float(found.embedding.trace()) == pytest.approx(float(expected.trace()), rel=0.15)
    assert float(torch.cosine_similarity(found.embedding.flatten(), expected.flatten(), dim=0)) > 0.95


@torch.no_grad()
def test_the_loss_criterion_sees_bounded_logits(model, window) -> None:
    states = Chain(model, window).final
    other = states + 0.1 * torch.randn(states.shape, generator=torch.Generator().manual_seed(3))
    head = model.module.lm_head
    expected = divergence.kl(*(4 * torch.tanh(head(each) / 4) for each in (states, other))).mean()
    assert Judge(model, states).divergence(other) == pytest.approx(float(expected), rel=2e-2)
