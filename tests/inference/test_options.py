from __future__ import annotations

import math

import pytest

from smidgen.errors import InvalidInput, RecipeError, ReferenceNotFound
from smidgen.inference.options import GenerationOptions


def test_defaults_are_those_of_ollama() -> None:
    options = GenerationOptions()
    assert (options.temperature, options.top_k, options.top_p, options.min_p) == (0.8, 40, 0.9, 0)
    assert (options.repeat_last_n, options.repeat_penalty, options.num_predict, options.seed) == (64, 1.0, -1, -1)


def test_a_mapping_may_give_one_stop_text_or_several() -> None:
    assert GenerationOptions.from_mapping({"stop": "a"}).stop == ("a",)
    assert GenerationOptions.from_mapping({"stop": ["a", "b"], "num_ctx": None}).stop == ("a", "b")


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(ReferenceNotFound, match="Did you mean 'temperature'"):
        GenerationOptions.from_mapping({"temprature": 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -1),
        ("temperature", math.nan),
        ("top_p", 1.1),
        ("top_k", 2.5),
        ("seed", True),
        ("num_predict", "8"),
        ("stop", 5),
        ("stop", [""]),
        ("stop", [1]),
        ("num_ctx", 0),
        ("num_batch", None),
        ("use_mmap", 1),
    ],
)
def test_wrong_values_are_named(name: str, value: object) -> None:
    with pytest.raises(InvalidInput, match=f"'{name}'"):
        GenerationOptions.from_mapping({name: value})


def test_several_faults_are_shown_together() -> None:
    with pytest.raises(RecipeError) as caught:
        GenerationOptions.from_mapping({"top_p": 3, "top_k": -1})
    assert len(caught.value.problems) == 2
