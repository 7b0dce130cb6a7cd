"""Whole models are quantised in order, and what is packed is what the module computes with."""

from __future__ import annotations

import pytest
import torch

from smidgen import formats
from smidgen.errors import InvalidInput, RecipeError
from smidgen.shrink.quantize import quantize as quantize_file
from smidgen.shrink.quantize import solvers
from smidgen.shrink.quantize.moments import second_moments
from smidgen.shrink.quantize.quantize import Quantize
from smidgen.shrink.quantize.sensitivity import head_moments, probe

KINDS = [("llama", True), ("llama", False), ("qwen2", True), ("qwen2", False)]
each_kind = pytest.mark.parametrize(("family", "tied"), KINDS)


def hooks_of(module: torch.nn.Module) -> int:
    return sum(
        len(part._forward_hooks) + len(part._forward_pre_hooks) + len(part._backward_hooks) for part in module.modules()
    )


@pytest.fixture
def seen(monkeypatch) -> list[tuple[int, torch.Tensor | None]]:
    """Rows and Hessian of everything that is solved, in order."""
    solved: list[tuple[int, torch.Tensor | None]] = []
    solve = solvers.find("gptq").__class__.solve

    def watched(self, weight, hessian, number_format):
        solved.append((len(weight), hessian))
        return solve(self, weight, hessian, number_format)

    monkeypatch.setattr(solvers.find("gptq").__class__, "solve", watched)
    return solved


@each_kind
@pytest.mark.parametrize("solver", ["gptq", "nearest"])
def test_what_is_packed_is_what_the_module_holds(tiny_model, windows, family, tied, solver):
    model = tiny_model(family, tie_word_embeddings=tied)
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    flags = {name: value.requires_grad for name, value in model.module.named_parameters()}
    made = Quantize(default="q4_0", solver=solver).apply(model, windows)

    assert set(made.packed) == set(model.anatomy.matrices())
    for name, packed in made.packed.items():
        number_format = formats.find(packed.format)
        assert torch.equal(number_format.unpack(packed.data), made.weight(name)), name
        assert packed.shape == tuple(made.weight(name).shape)
        assert packed.data.numel() == number_format.bytes_for(packed.shape)
        assert packed.data.is_contiguous() and packed.data.untyped_storage().nbytes() == packed.data.numel()
        assert not torch.equal(made.weight(name), before[name])
    head, embedding = (made.module.get_submodule(path).weight for path in (model.anatomy.head, model.anatomy.embedding))
    assert (head is embedding) == tied

    others = [name for name in before if name not in made.packed and not (tied and name.startswith(model.anatomy.head))]
    for name in others:  # norms, and the biases of qwen2
        assert torch.equal(made.module.state_dict()[name], before[name]), name
    assert any(name.endswith(".bias") for name in others) == (family == "qwen2")

    assert not model.packed and all(
        torch.equal(value, before[name]) for name, value in model.module.state_dict().items()
    )
    assert {name: value.requires_grad for name, value in model.module.named_parameters()} == flags
    assert hooks_of(model.module) == hooks_of(made.module) == 0
    step = made.lineage.steps[-1]
    assert step.operation == "quantize" and len(model.lineage.steps) == len(made.lineage.steps) - 1
    assert step.parameters["formats"] == dict.fromkeys(sorted(model.anatomy.matrices()), "q4_0")
    assert step.parameters["solver"] == solver and step.parameters["calibration_tokens"] == windows.numel()


def test_quantising_twice_gives_the_same_bytes(tiny_model, windows):
    first, second = (Quantize(default="q4_1").apply(tiny_model(), windows) for _ in range(2))
    assert all(torch.equal(first.packed[name].data, second.packed[name].data) for name in first.packed)


def test_every_matrix_sees_what_its_quantised_predecessors_produce(tiny_model, windows, seen):
    model = tiny_model(tie_word_embeddings=False)
    made = Quantize(default="q4_0").apply(model, windows)
    sites = [site for site in model.anatomy.sites() if site.name != "head"]
    assert [rows for rows, _ in seen] == [
        400,
        *(sum(len(model.weight(f"{path}.weight")) for path in site.modules) for site in sites),
        400,
    ]
    last = sites[-1]  # the last block's down projection: everything before it is quantised by then
    hessians = {}
    for name, given in (("source", model), ("made", made)):
        inputs: list[torch.Tensor] = []
        module = given.module.get_submodule(last.modules[0])
        hook = module.register_forward_pre_hook(lambda _, values, kept=inputs: kept.append(values[0]))
        with torch.no_grad(), quantize_file.autocast():
            given.module.base_model(windows, use_cache=False)
        hook.remove()
        hessians[name] = second_moments(inputs[0])
    used = seen[-2][1]
    assert used is not None
    size = hessians["made"].norm()
    assert (used - hessians["made"]).norm() < 1e-5 * size
    assert (used - hessians["source"]).norm() > 1e-2 * size


def test_the_head_reads_what_the_quantised_blocks_produce(tiny_model, windows, seen):
    model = tiny_model(tie_word_embeddings=False)
    made = Quantize(default="q4_0").apply(model, windows)
    with torch.no_grad(), quantize_file.autocast():
        hidden = made.module.base_model(windows, use_cache=False).last_hidden_state
    used = seen[-1][1]
    assert used is not None
    assert (used - second_moments(hidden)).norm() < 1e-4 * used.norm()


def test_a_tied_embedding_goes_by_what_both_its_uses_notice(tiny_model, windows, seen):
    model = tiny_model()
    known = probe(model, windows[:2])
    Quantize(default="q4_0").apply(model, windows, sensitivity=known)
    expected = head_moments(model, windows) + known.embedding
    used = seen[0][1]
    assert used is not None and torch.allclose(used, expected, rtol=1e-5, atol=1e-6)
    assert seen[0][0] == 400 and len(seen) == 1 + 4 * 3


def test_matrices_of_one_site_and_other_formats_are_solved_apart(tiny_model, windows, seen):
    model = tiny_model(num_hidden_layers=1)
    query, key, value = (model.anatomy.blocks[0].projections[role].weight for role in ("query", "key", "value"))
    made = Quantize(formats={query: "q4_0", key: "q8_0", value: "q4_0"}).apply(model, windows)
    assert [rows for rows, _ in seen] == [64 + 32, 32]
    assert {name: packed.format for name, packed in made.packed.items()} == {
        query: "q4_0",
        key: "q8_0",
        value: "q4_0",
    }


def test_matrices_not_named_stay_as_they_are(tiny_model, windows):
    model = tiny_model()
    name = model.anatomy.blocks[1].projections["up"].weight
    operation = Quantize(formats={name: "q5_1"})
    assert not operation.needs_sensitivity(model)
    made = operation.apply(model, windows)
    assert set(made.packed) == {name}
    changed = {
        key for key, value in made.module.state_dict().items() if not torch.equal(value, model.module.state_dict()[key])
    }
    assert changed == {name}


def test_more_bits_lie_nearer(tiny_model, windows):
    from smidgen import divergence

    model = tiny_model()
    with torch.no_grad():
        reference = model.module(windows).logits.flatten(0, 1)
        found = [
            float(
                divergence.kl(
                    reference, Quantize(default=name).apply(model, windows).module(windows).logits.flatten(0, 1)
                ).mean()
            )
            for name in ("q8_0", "q5_0", "q4_0")
        ]
    assert found == sorted(found) and found[0] < 0.05 * found[2]


def test_float_formats_store_without_a_solver(tiny_model, windows):
    model = tiny_model()
    name = model.anatomy.blocks[0].projections["down"].weight
    made = Quantize(formats={name: "float16"}).apply(model, windows)
    assert torch.equal(made.weight(name), model.weight(name).half().float())


def test_bfloat16_models_hold_the_packed_values_rounded_to_their_type(tiny_model, windows):
    model = tiny_model(dtype=torch.bfloat16)
    made = Quantize(default="q4_0").apply(model, windows)
    for name, packed in made.packed.items():
        values = formats.find(packed.format).unpack(packed.data)
        assert torch.equal(values.to(torch.bfloat16), made.weight(name))


def test_every_fault_is_named_at_once(tiny_model, windows):
    model = tiny_model()
    down, up = (model.anatomy.blocks[2].projections[role].weight for role in ("down", "up"))
    operation = Quantize(formats={down: "q4_k", up: "q6_k", "model.layers.9.wrong.weight": "q4_0"})
    with pytest.raises(RecipeError) as caught:
        operation.apply(model, windows)
    assert len(caught.value.problems) == 3
    for words in (
        f"{down} has rows of 128, which q4_k cannot hold",
        f"{up} has rows of 64",
        "model.layers.9.wrong.weight",
    ):
        assert words in str(caught.value)
    assert hooks_of(model.module) == 0


def test_names_that_do_not_exist_are_collected():
    with pytest.raises(RecipeError) as caught:
        Quantize(formats={"a": "q4_00", "b": "q4_00"}, default="q9", solver="gtpq", damping=0)
    assert len(caught.value.problems) == 4
    for words in ("Did you mean 'q4_0'", "Did you mean 'gptq'", "'q9'", "damping"):
        assert words in str(caught.value)


def test_a_model_of_nans_is_an_error_and_leaves_no_hooks(tiny_model, windows):
    model = tiny_model()
    with torch.no_grad():
        model.weight(model.anatomy.blocks[1].projections["up"].weight)[3, 3] = float("nan")
    with pytest.raises(InvalidInput):
        Quantize(default="q4_0").apply(model, windows)
    assert hooks_of(model.module) == 0


def test_progress_counts_the_matrices(tiny_model, windows):
    events = []
    model = tiny_model()
    Quantize(default="q8_0").apply(model, windows, progress=events.append)
    counted = [event for event in events if event.stage == "quantizing"]
    assert [event.done for event in counted] == list(range(1, 23)) and counted[0].total == 22


def test_second_moments_do_not_depend_on_the_slices():
    inputs = torch.randn(3, 50, 8, generator=torch.Generator().manual_seed(0))
    flat = inputs.flatten(0, 1)
    assert torch.allclose(second_moments(inputs, rows=7), flat.T @ flat / 150, atol=1e-6)
    assert torch.allclose(second_moments(inputs), second_moments(inputs, rows=7), atol=1e-6)
