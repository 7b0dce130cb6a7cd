"""What every distillation loss promises."""

import inspect
import runpy
from contextlib import ExitStack
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from smidgen.shrink.distill import _slopes, losses, teachers
from smidgen.shrink.distill._objective import Bench
from smidgen.shrink.distill.losses import Chunk, GradientLoss, OutputLoss, PartLoss, TopTokens
from smidgen.shrink.distill.matching import Matching
from smidgen.shrink.distill.temperature import Temperature
from smidgen.shrink.distill.terms import Term, Terms
from smidgen.shrink.training import head

build_model = runpy.run_path(str(Path(__file__).parents[1] / "shrink" / "conftest.py"))["build_model"]
OPTIONS = {
    "soft_output": [{}, {"direction": "reverse"}, {"direction": "jensen_shannon", "beta": 0.3}],
    "soft_attention": [{}, {"relation": "query"}, {"relation": "key", "last": True}, {"relation": "value"}],
    "hidden": [{}, {"measure": "mse"}],
    "embedding": [{}, {"measure": "mse"}],
    "gradient": [{}, {"directions": 3}],
}
KINDS = (OutputLoss, PartLoss, GradientLoss)
CASES = [(name, options) for name in losses.names() for options in OPTIONS.get(name, [{}])]
OUTPUTS = [(name, options) for name, options in CASES if issubclass(type(losses.build(name, options)), OutputLoss)]


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    monkeypatch.setattr("smidgen.shrink.precision._fast_bfloat16", lambda: False)


@pytest.fixture
def bench(tmp_path):
    """Builds student, teacher and one loss side by side."""
    with ExitStack() as stack:

        def build(loss, student, teacher, temperature=1.0):
            terms = Terms((Term(loss),), Temperature(temperature))
            return Bench(Matching(student, teacher), terms, teachers.build("live", {}), tmp_path, stack)

        yield build


@pytest.fixture
def in_chunks(monkeypatch):
    """Sets how many tokens pass the head at once."""

    def set_to(tokens):
        monkeypatch.setattr(head.mean_through_head, "__kwdefaults__", {"chunk": tokens})
        monkeypatch.setattr(_slopes, "CHUNK", tokens)

    return set_to


def ids_of(rows=3, length=20):
    return torch.randint(3, 400, (rows, length), generator=torch.Generator().manual_seed(5))


def gradients(objective, student):
    student.module.zero_grad()
    loss, count = objective.at(torch.arange(len(objective.ids)), 1.7)
    loss.backward()
    return (
        float(loss.detach()),
        count,
        {name: each.grad.clone() for name, each in student.module.named_parameters() if each.grad is not None},
    )


def test_the_sweep_found_every_loss():
    folder = Path(losses.__file__).parent
    files = {path.stem for path in folder.glob("*.py") if not path.name.startswith("_")}
    assert set(losses.names()) == files and len(files) == 6
    assert len(CASES) == 14 and len(OUTPUTS) == 4
    assert {name for name, _ in CASES} == files and set(OPTIONS) <= files


@pytest.mark.parametrize("name", losses.names())
def test_a_loss_is_a_documented_frozen_dataclass(name):
    kind = type(losses.build(name, {}))
    assert is_dataclass(kind) and kind.__dataclass_params__.frozen
    assert sum(issubclass(kind, one) for one in KINDS) == 1
    text = inspect.getdoc(kind)
    assert ">>>" in text and "Source" in text and "``[tokens, " in text
    assert all(f"{field.name}: " in text for field in fields(kind))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_in_chunks_it_equals_the_whole_loss_and_all_gradients(name, options, tied, bench, in_chunks):
    student, teacher = build_model(seed=1, tie_word_embeddings=tied), build_model(seed=2)
    objective = bench(losses.build(name, options), student, teacher).objective(ids_of(), None, print)
    in_chunks(10**6)
    whole, _, expected = gradients(objective, student)
    in_chunks(7)
    chunked, _, found = gradients(objective, student)
    assert chunked == pytest.approx(whole, rel=1e-5)
    assert found.keys() == expected.keys() and len(found) >= 28
    for parameter, gradient in expected.items():
        assert torch.allclose(found[parameter], gradient, rtol=1e-4, atol=1e-5 * float(gradient.abs().max())), parameter


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("name", "options"), OUTPUTS)
def test_it_equals_plain_autograd_over_all_logits(name, options, tied, bench):
    student, teacher = build_model(seed=1, tie_word_embeddings=tied), build_model(seed=2)
    loss, ids = losses.build(name, options), ids_of()
    found, _, by_parameter = gradients(bench(loss, student, teacher).objective(ids, None, print), student)
    student.module.zero_grad()
    with torch.no_grad():
        theirs = teacher.module(input_ids=ids).logits[:, :-1].flatten(0, 1)
    mine = student.module(input_ids=ids).logits[:, :-1].flatten(0, 1)
    expected = loss.per_token(mine, Chunk(ids[:, 1:].flatten(), theirs, None, 1.7)).mean()
    expected.backward()
    assert found == pytest.approx(float(expected.detach()), rel=1e-5)
    for parameter, each in student.module.named_parameters():
        limit = 1e-5 * float(each.grad.abs().max())
        assert torch.allclose(by_parameter[parameter], each.grad, rtol=1e-4, atol=limit), parameter


@pytest.mark.parametrize("tied", [True, False])
def test_slopes_equal_plain_double_autograd(tied, bench, in_chunks):
    student, teacher = (build_model("qwen2", seed=seed, tie_word_embeddings=tied) for seed in (1, 2))
    loss, ids, slopes = losses.build("gradient", {}), ids_of(), []
    in_chunks(7)
    found, _, by_parameter = gradients(bench(loss, student, teacher).objective(ids, None, print), student)
    student.module.zero_grad()
    for model in (student, teacher):
        model.module.set_attn_implementation("eager")
        embedded = model.module.get_input_embeddings()(ids)
        logits = model.module(inputs_embeds=embedded).logits[:, :-1].flatten(0, 1)
        value = torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten())
        slopes += torch.autograd.grad(value, embedded, create_graph=True)
    mine, theirs = slopes[0], slopes[1].detach()
    expected = ((mine - theirs).square().sum((1, 2)) / theirs.square().sum((1, 2))).mean()
    expected.backward()
    assert found == pytest.approx(float(expected.detach()), rel=1e-4)
    for parameter, each in student.module.named_parameters():
        limit = 1e-4 * float(each.grad.abs().max())
        assert torch.allclose(by_parameter[parameter], each.grad, rtol=1e-3, atol=limit), parameter


@pytest.mark.parametrize(("name", "options"), [case for case in CASES if case[0] != "hard_output"])
def test_it_is_zero_where_student_equals_teacher_and_above_elsewhere(name, options, bench):
    loss = losses.build(name, options)
    student, teacher = build_model(seed=1), build_model(seed=1)
    same, _, slopes = gradients(bench(loss, student, teacher).objective(ids_of(), None, print), student)
    other = gradients(bench(loss, build_model(seed=3), teacher).objective(ids_of(), None, print), build_model(seed=3))
    assert abs(same) < 1e-6 and other[0] > 0.05
    assert max(float(each.abs().max()) for each in slopes.values()) < 1e-4


@pytest.mark.parametrize(("name", "options"), CASES)
def test_masked_tokens_do_not_count(name, options, bench):
    student, teacher, ids = build_model(seed=1), build_model(seed=2), ids_of()
    mask = torch.zeros_like(ids, dtype=torch.bool)
    mask[:, 4:9] = True
    mask[1] = False
    objective = bench(losses.build(name, options), student, teacher)
    value, count, slopes = gradients(objective.objective(ids, mask, print), student)
    assert count == 2 * 5
    changed = ids.clone()
    changed[:, 9:] = changed[:, 9:].roll(1, 1)
    changed[1] = changed[1].flip(0)
    again, _, slopes_again = gradients(objective.objective(changed, mask, print), student)
    assert again == pytest.approx(value, rel=1e-5)
    for parameter, gradient in slopes.items():
        assert torch.allclose(slopes_again[parameter], gradient, atol=1e-5), parameter
    assert gradients(objective.objective(ids, None, print), student)[0] != pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_nothing_is_learned_where_everything_is_masked(name, options, bench):
    student, ids = build_model(seed=1), ids_of()
    mask = torch.zeros_like(ids, dtype=torch.bool)
    objective = bench(losses.build(name, options), student, build_model(seed=2)).objective(ids, mask, print)
    value, count, slopes = gradients(objective, student)
    assert count == 0 and value == 0 and not any(slope.any() for slope in slopes.values())


class Largest(TorchDispatchMode):
    """Records the most elements of any tensor that has the vocabulary as its last axis."""

    def __init__(self, vocabulary):
        super().__init__()
        self.vocabulary, self.rows = vocabulary, 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        for each in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(each, torch.Tensor) and each.dim() and self.vocabulary in each.shape:
                self.rows = max(self.rows, each.numel() // self.vocabulary)
        return result


@pytest.mark.parametrize(("name", "options"), [*OUTPUTS, ("gradient", {})])
def test_logits_are_never_held_whole(name, options, bench, in_chunks):
    student, teacher = build_model(seed=1), build_model(seed=2)
    objective = bench(losses.build(name, options), student, teacher).objective(ids_of(4, 65), None, print)
    seen = {}
    for chunk in (16, 256):
        in_chunks(chunk)
        with Largest(400) as largest:
            gradients(objective, student)
        seen[chunk] = largest.rows
    assert seen[256] == 4 * 64  # the recorder sees whole logits where they are
    assert seen[16] == 64  # with chunks the head's own weight, 64 wide, is the largest of its kind


@pytest.mark.parametrize("options", OPTIONS["soft_output"])
def test_top_tokens_that_leave_out_one_equal_the_full_distribution(options):
    generator = torch.Generator().manual_seed(0)
    mine, theirs = (torch.randn(5, 12, generator=generator) * 2 for _ in range(2))
    loss, targets = losses.build("soft_output", options), torch.zeros(5, dtype=torch.int64)
    scores, indices = theirs.log_softmax(-1).topk(11, -1)
    top = TopTokens(indices, scores, (1 - theirs.double().softmax(-1).gather(1, indices).sum(-1)).float())
    for temperature in (1.0, 2.0):
        full = Chunk(targets, theirs, None, temperature)
        both = []
        for chunk in (full, replace(full, teacher=top)):
            logits = mine.clone().requires_grad_()
            value = loss.per_token(logits, chunk)
            value.sum().backward()
            both.append((value.detach(), logits.grad))
        assert torch.allclose(both[0][0], both[1][0], atol=1e-5)
        assert torch.allclose(both[0][1], both[1][1], atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS["soft_output"])
def test_top_tokens_are_zero_for_an_equal_student_and_never_above_the_full_divergence(options):
    generator = torch.Generator().manual_seed(0)
    mine, theirs = (torch.randn(50, 40, generator=generator) * 2 for _ in range(2))
    loss, targets = losses.build("soft_output", options), torch.zeros(50, dtype=torch.int64)
    scores, indices = theirs.log_softmax(-1).topk(8, -1)
    chunk = Chunk(targets, TopTokens(indices, scores, 1 - scores.exp().sum(-1)))
    assert float(loss.per_token(theirs, chunk).abs().max()) < 1e-5
    coarse, full = loss.per_token(mine, chunk), loss.per_token(mine, replace(chunk, teacher=theirs))
    assert (coarse > 0).all() and (coarse <= full + 1e-5).all()
    columns = torch.arange(39)
    shifted = loss.per_token(theirs, Chunk(targets, theirs[:, :39], columns))
    assert float(shifted.abs().max()) < 1e-5
