"""Allocation against trying every combination, and what its choices are made of."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen import formats
from smidgen.shrink.quantize.allocate import (
    BUCKETS,
    Choice,
    allocate,
    block_formats,
    choices,
    least_damage,
    pareto_front,
    smallest_bytes,
)
from smidgen.shrink.quantize.sensitivity import probe

DAMAGES = st.floats(min_value=0, max_value=10, allow_nan=False, width=32)


def fronts(largest: int) -> st.SearchStrategy[list[Choice]]:
    choice = st.builds(Choice, st.sampled_from(["a", "b", "c"]), st.integers(1, largest), DAMAGES)
    return st.lists(choice, min_size=1, max_size=4).map(pareto_front)


def tables(largest: int = 200) -> st.SearchStrategy[dict[str, list[Choice]]]:
    return st.lists(fronts(largest), min_size=1, max_size=5).map(
        lambda found: {f"m{i}": f for i, f in enumerate(found)}
    )


def brute_force(table: dict[str, list[Choice]], budget: float) -> float | None:
    totals = [
        sum(choice.damage for choice in mix)
        for mix in itertools.product(*table.values())
        if sum(choice.bytes for choice in mix) <= budget
    ]
    return min(totals, default=None)


def total(chosen: dict[str, Choice]) -> tuple[int, float]:
    return sum(choice.bytes for choice in chosen.values()), sum(choice.damage for choice in chosen.values())


@settings(max_examples=150, deadline=None)
@given(tables(), st.integers(1, 1200))
def test_it_finds_what_trying_everything_finds(table, budget):
    chosen, best, bound = allocate(table, budget), brute_force(table, budget), least_damage(table, budget)
    if best is None:
        assert chosen is None and bound is None and smallest_bytes(table) > budget
        return
    assert chosen is not None and bound is not None
    size, damage = total(chosen)
    assert size <= budget
    assert damage == pytest.approx(best, abs=1e-6)
    assert bound <= damage + 1e-6
    assert list(chosen) == list(table) and all(chosen[name] in table[name] for name in table)


@settings(max_examples=25, deadline=None)
@given(tables(largest=40_000_000), st.floats(0.5, 1.2))
def test_large_budgets_lose_at_most_the_rounding_of_the_buckets(table, share):
    budget = int(share * sum(front[-1].bytes for front in table.values()))
    chosen = allocate(table, budget)
    if chosen is None:
        assert brute_force(table, budget) is None
        return
    size, damage = total(chosen)
    assert size <= budget
    # Every matrix is rounded up by less than one bucket, and the last bucket is not whole.
    best = brute_force(table, budget - (len(table) + 1) * (budget / BUCKETS + 1))
    assert best is None or damage <= best + 1e-6


def test_the_tightest_budget_gets_the_smallest_choices():
    table = {f"m{number}": [Choice("a", 1_000_003, 2.0), Choice("b", 1_900_001, 1.0)] for number in range(200)}
    chosen = allocate(table, smallest_bytes(table))
    assert chosen is not None and {choice.format for choice in chosen.values()} == {"a"}
    assert allocate(table, smallest_bytes(table) - 1) is None
    assert least_damage(table, smallest_bytes(table)) == pytest.approx(400)


def test_no_matrices_cost_nothing():
    assert allocate({}, 10) == {} and least_damage({}, 10) == 0


@settings(max_examples=100, deadline=None)
@given(tables(), st.integers(1, 1000), st.integers(0, 200))
def test_more_bytes_never_harm(table, budget, more):
    less, greater = allocate(table, budget), allocate(table, budget + more)
    if less is not None:
        assert greater is not None and total(greater)[1] <= total(less)[1] + 1e-6
        one, two = least_damage(table, budget), least_damage(table, budget + more)
        assert one is not None and two is not None and two <= one + 1e-6


@given(st.lists(st.builds(Choice, st.text("abc", max_size=2), st.integers(0, 30), DAMAGES), min_size=1, max_size=12))
def test_the_front_is_what_nothing_beats(found):
    front = pareto_front(found)
    assert front == sorted(front, key=lambda choice: choice.bytes)
    for one, two in itertools.pairwise(front):
        assert one.bytes < two.bytes and one.damage > two.damage
    for choice in found:
        assert any(kept.bytes <= choice.bytes and kept.damage <= choice.damage for kept in front)
    assert all(choice in found for choice in front) and pareto_front(front) == front
    assert pareto_front(reversed(found)) == front


def test_formats_are_listed_from_the_smallest():
    names = block_formats()
    bits = [formats.find(name).bits_per_weight for name in names]
    assert len(names) == 15 and bits == sorted(bits) and "float16" not in names


@pytest.mark.parametrize("tied", [True, False])
def test_choices_fit_their_matrices_and_lie_on_the_front(tiny_model, windows, tied):
    model = tiny_model(tie_word_embeddings=tied, num_hidden_layers=2)
    table = choices(model, probe(model, windows[:2]))
    assert list(table) == list(model.anatomy.matrices())
    for name, front in table.items():
        assert front == pareto_front(front) and front
        for choice in front:
            number_format = formats.find(choice.format)
            assert number_format.fits(model.weight(name).shape[1])  # rows of 64 and 128: none of 256
            assert choice.bytes == number_format.bytes_for(tuple(model.weight(name).shape))
            assert choice.damage > 0
        assert front[0].bytes < front[-1].bytes and front[-1].format == "q8_0"
        assert front[-1].damage < 0.05 * front[0].damage


def test_factors_multiply_and_allowed_limits(tiny_model, windows):
    model = tiny_model(num_hidden_layers=1)
    known = replace(probe(model, windows[:2]), inputs={})
    plain = choices(model, known)
    name = model.anatomy.blocks[0].projections["up"].weight
    weighed = choices(model, known, factors={name: 3.0})
    for one, two in zip(plain[name], weighed[name], strict=True):
        assert two.damage == pytest.approx(3 * one.damage) and two.format == one.format
    other = model.anatomy.blocks[0].projections["down"].weight
    assert weighed[other] == plain[other]
    limited = choices(model, known, allowed=["q4_0", "q8_0"])
    assert all([choice.format for choice in front] == ["q4_0", "q8_0"] for front in limited.values())


def test_what_rounded_inputs_cost_is_added_by_the_blocks_of_the_format(tiny_model, windows):
    model = tiny_model(num_hidden_layers=1, hidden_size=256)
    name = model.anatomy.blocks[0].projections["up"].weight
    without = replace(probe(model, windows[:2]), inputs={})
    beside = replace(without, inputs={name: {32: 0.25, 256: 1.0}})
    allowed = ["q4_0", "q5_k", "q8_0"]
    plain = {choice.format: choice.damage for choice in choices(model, without, allowed=allowed)[name]}
    costly = choices(model, beside, factors={name: 3.0}, allowed=allowed)[name]
    assert set(plain) == {"q4_0", "q5_k", "q8_0"}
    assert {choice.format: choice.damage for choice in costly} == {
        each: pytest.approx(3 * plain[each] + 0.25) for each in ("q4_0", "q8_0")
    }  # Q5_K reads its inputs in blocks of 256: now it is dearer than the smaller format


def test_a_matrix_on_a_grid_is_known_to_cost_nothing_there(tiny_model, windows):
    model = tiny_model(num_hidden_layers=1)
    name = model.anatomy.blocks[0].projections["down"].weight
    q4_1 = formats.find("q4_1")
    with torch.no_grad():
        model.weight(name).copy_(q4_1.unpack(q4_1.quantize(model.weight(name))))
    known = replace(probe(model, windows[:2]), inputs={})
    damages = {choice.format: choice.damage for choice in choices(model, known)[name]}
    assert damages["q4_1"] < 1e-3 * damages["iq4_nl" if "iq4_nl" in damages else "q4_0"]
