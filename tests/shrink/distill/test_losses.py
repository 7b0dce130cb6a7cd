"""What single losses compare; what all of them promise stands in the contract."""

import math
from contextlib import ExitStack
from dataclasses import replace

import pytest
import torch

from smidgen import divergence
from smidgen.errors import InvalidInput, ReferenceNotFound, Unsupported
from smidgen.shrink.distill import losses, teachers
from smidgen.shrink.distill._objective import Bench
from smidgen.shrink.distill.losses import Chunk, TopTokens
from smidgen.shrink.distill.losses.soft_attention import relation_heads
from smidgen.shrink.distill.matching import Matching
from smidgen.shrink.distill.terms import Term, Terms, read


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    monkeypatch.setattr("smidgen.shrink.precision._fast_bfloat16", lambda: False)


@pytest.fixture
def value(tmp_path, windows):
    """Computes one loss of two models on six rows."""
    with ExitStack() as stack:

        def compute(name, student, teacher, ids=windows, maps=None, **options):
            terms = Terms((Term(losses.build(name, options)),))
            matching = Matching(student, teacher, **(maps or {}))
            bench = Bench(matching, terms, teachers.build("live", {}), tmp_path, stack)
            return float(bench.objective(ids, None, print).at(torch.arange(len(ids)), 1.0)[0].detach())

        yield compute


def seen(model, ids):
    model.module.set_attn_implementation("eager")
    with torch.no_grad():
        return model.module(input_ids=ids, output_hidden_states=True, output_attentions=True)


def kl(p, q):
    return (p * (p.clamp_min(1e-9).log() - q.clamp_min(1e-9).log())).sum(-1)


def test_hidden_and_embedding_compare_what_transformers_shows(tiny_model, windows, value):
    student, teacher = tiny_model(seed=1), tiny_model(seed=2)
    found = [value("hidden", student, teacher), value("embedding", student, teacher, measure="mse")]
    mine, theirs = (seen(model, windows).hidden_states for model in (student, teacher))
    blocks = []
    for index, module in enumerate((student.module, teacher.module)):
        outputs = []
        handles = [
            layer.register_forward_hook(lambda _, __, out, outputs=outputs: outputs.append(out))
            for layer in module.model.layers
        ]
        with torch.no_grad():
            module(input_ids=windows)
        blocks.append(torch.stack(outputs)[:, :, :-1])
        assert [each.remove() for each in handles] and index < 2
    expected = (1 - torch.cosine_similarity(*blocks, dim=-1)).mean()
    assert found[0] == pytest.approx(float(expected), rel=1e-4)
    assert found[1] == pytest.approx(float((mine[-1] - theirs[-1])[:, :-1].square().mean()), rel=1e-4)


def test_attention_maps_are_those_of_transformers(tiny_model, windows, value):
    student, teacher = tiny_model(seed=1), tiny_model(seed=2)
    found = value("soft_attention", student, teacher)
    mine, theirs = (torch.stack(seen(model, windows).attentions)[:, :, :, :-1] for model in (student, teacher))
    assert found == pytest.approx(float(kl(theirs, mine).mean()), rel=1e-4)


def test_heads_are_compared_with_those_they_came_from_else_with_the_mean(tiny_model, windows, value):
    teacher = tiny_model(seed=2)
    student = tiny_model(seed=1, num_attention_heads=2, num_key_value_heads=1, head_dim=16)
    theirs, mine = (torch.stack(seen(model, windows).attentions)[:, :, :, :-1] for model in (teacher, student))
    mean = value("soft_attention", student, teacher)
    assert mean == pytest.approx(float(kl(theirs.mean(2), mine.mean(2)).mean()), rel=1e-4)
    cut = replace(student, lineage=student.lineage.without_heads(((0, 3),) * 3))
    assert value("soft_attention", cut, teacher) == pytest.approx(
        float(kl(theirs[:, :, [0, 3]], mine).mean()), rel=1e-4
    )
    mapped = value("soft_attention", cut, teacher, maps={"head_map": {0: 1}, "layer_map": {2: 0}}, last=True)
    assert mapped == pytest.approx(float(kl(theirs[0, :, 1], mine[2, :, 0]).mean()), rel=1e-4)


@pytest.mark.parametrize("relation", ["query", "value"])
def test_relations_compare_models_of_other_widths_and_head_counts(tiny_model, windows, value, relation):
    student, teacher = (
        tiny_model(hidden_size=48, num_attention_heads=3, num_key_value_heads=1, head_dim=16),
        tiny_model(),
    )
    found = value("soft_attention", student, teacher, relation=relation, last=True)
    both = []
    for model in (teacher, student):
        outputs = []
        layer = model.module.model.layers[2].self_attn
        handle = (layer.q_proj if relation == "query" else layer.v_proj).register_forward_hook(
            lambda _, __, out, outputs=outputs: outputs.append(out)
        )
        with torch.no_grad():
            model.module(input_ids=windows)
        handle.remove()
        parts = torch.stack(outputs[0].chunk(2, -1), 1)
        scores = parts @ parts.transpose(-1, -2) / parts.shape[-1] ** 0.5
        scores += torch.full((32, 32), -torch.inf).triu(1)
        both.append(scores.softmax(-1)[:, :, :-1])
    assert found == pytest.approx(float(kl(*both).mean()), rel=1e-4)
    assert relation_heads(64, 48, most=3) == 2 and relation_heads(32, 16, most=3) == 2


def test_slopes_of_other_widths_are_compared_along_directions(tiny_model, value):
    student, teacher = tiny_model(hidden_size=32), tiny_model()
    with pytest.raises(Unsupported, match="directions"):
        value("gradient", student, teacher)
    found = value("gradient", student, teacher, directions=4)
    assert found > 0.1
    with torch.no_grad():
        again = [value("gradient", student, teacher, directions=4) for _ in range(2)]
    assert again == pytest.approx([found] * 2, rel=1e-5)


def test_a_pruned_vocabulary_is_followed_by_slopes(tiny_model, value):
    kept = tuple(range(400))[::-1]
    teacher, student = tiny_model(seed=1), tiny_model(seed=1)
    for name in {"model.embed_tokens.weight"}:
        student.weight(name).data = student.weight(name).data[list(kept)]
    student = replace(student, lineage=student.lineage.without_tokens(kept))
    ids = torch.randint(3, 397, (2, 12), generator=torch.Generator().manual_seed(0))
    assert value("gradient", student, teacher, ids) < 1e-6
    assert value("gradient", student, teacher, ids, directions=2) < 1e-6


def test_bounded_logits_are_respected(tiny_model, value, monkeypatch):
    student, teacher = tiny_model(seed=1), tiny_model(seed=2)

    def values():
        return [value(name, student, teacher) for name in ("soft_output", "hard_output", "gradient")]

    before = values()
    monkeypatch.setattr(type(student.anatomy), "logits", lambda _, scores: scores * 0)
    assert values() == pytest.approx([0, math.log(400), 0], abs=1e-4)
    assert all(each > 0.1 for each in before)


@pytest.mark.parametrize("direction", ["forward", "reverse", "jensen_shannon"])
@pytest.mark.parametrize("shared", [None, 30])
def test_the_gradient_of_top_tokens_is_that_of_plain_autograd(direction, shared):
    generator = torch.Generator().manual_seed(0)
    mine, theirs = (torch.randn(5, 40, generator=generator) * 3 for _ in range(2))
    columns = None if shared is None else torch.randperm(40, generator=generator)[:shared]
    known = torch.arange(40) if columns is None else columns
    scores, places = theirs[:, known].log_softmax(-1).topk(6, -1)
    top = TopTokens(known[places], scores, 1 - scores.exp().sum(-1))
    logits = mine.requires_grad_()
    loss, chunk = losses.build("soft_output", {"direction": direction}), Chunk(places[:, 0], top, columns, 1.5)
    found = torch.autograd.grad(loss.per_token(logits, chunk).sum(), logits)[0]
    outside = torch.full_like(mine, -math.inf)
    outside[:, known] = 0
    scaled = (logits / 1.5 + outside).log_softmax(-1)
    rest = scaled.exp().scatter(1, top.indices, 0).sum(-1, keepdim=True).log()
    result = torch.cat([scaled.gather(1, top.indices), rest], -1)
    tail = (top.tail / (len(known) - 6)).log()[:, None] / 1.5 + math.log(len(known) - 6)
    source = torch.cat([scores / 1.5, tail], -1).log_softmax(-1)
    apart = {
        "forward": (source.exp() * (source - result)).sum(-1),
        "reverse": (result.exp() * (result - source)).sum(-1),
        "jensen_shannon": divergence.jensen_shannon(source, result),
    }[direction]
    expected = torch.autograd.grad(1.5**2 * apart.sum(), logits)[0]
    assert torch.allclose(found, expected, atol=1e-5) and float(expected.abs().max()) > 0.02


def test_weights_go_in_a_straight_line():
    terms = Terms(read({"hidden": {"weight": 1.0, "weight_end": 0.0}, "soft_output": 0.5}), steps=5)
    assert [terms.weights(step).parts[0][1] for step in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert terms.weights(None).parts[0][1] == 0.0 and terms.weights(None).outputs[0][1] == 0.5
    assert terms.asks == {"parts", "outputs"}


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"hidden": {"weight": 1, "weight_end": -1}}, InvalidInput, "above 0"),
        ({"hidden": {"weight": "much"}}, InvalidInput, "no number"),
        ({"hidden": {"weigth": 1}}, ReferenceNotFound, "weight"),
        ({"soft_attention": {"relation": "keys"}}, ReferenceNotFound, "'key'"),
        ({"gradient": {"directions": -1}}, InvalidInput, "directions"),
        ({"embedding": {"measure": "l1"}}, ReferenceNotFound, "cosine"),
    ],
)
def test_wrong_terms_are_said(given, error, words):
    with pytest.raises(error, match=words):
        read(given)
