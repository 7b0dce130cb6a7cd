"""Recipes are read, written and judged fault by fault."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from smidgen.errors import DamagedFile, RecipeError, ReferenceNotFound
from smidgen.recipe.recipe import Recipe, Step, operations

HAND_WRITTEN = """
# A model for tickets.
source: smollm2:135m
data: tickets.jsonl
windows: 32
steps:
  - {operation: prune, structure: layer, criterion: block_influence, keep: 27}
  - operation: distill
    steps: 200
    learning_rate: 3.0e-4
  - operation: quantize
    formats:
      model.embed_tokens.weight: iq4_nl
    default: q4_0
"""


def read(tmp_path: Path, text: str | bytes) -> Recipe:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Recipe.read(path)


def faults(tmp_path: Path, text: str) -> str:
    with pytest.raises(RecipeError) as caught:
        read(tmp_path, text)
    return "\n".join(caught.value.problems)


def test_a_recipe_written_by_hand_is_understood(tmp_path):
    recipe = read(tmp_path, HAND_WRITTEN)
    assert (recipe.source, recipe.data, recipe.windows, recipe.length, recipe.seed) == (
        "smollm2:135m",
        "tickets.jsonl",
        32,
        512,
        0,
    )
    assert recipe.sha256 is None and recipe.threads is None
    assert [step.operation for step in recipe.steps] == ["prune", "distill", "quantize"]
    prune, distill, quantize = (step.build() for step in recipe.steps)
    assert (prune.structure, prune.criterion, prune.keep) == ("layer", "block_influence", 27)
    assert distill.steps == 200 and distill.learning_rate == 3e-4
    assert quantize.formats == {"model.embed_tokens.weight": "iq4_nl"} and quantize.default == "q4_0"


@settings(max_examples=40, deadline=None)
@given(
    source=st.text(min_size=1, max_size=30),
    data=st.none() | st.text(min_size=1, max_size=30),
    sha256=st.none() | st.just("0" * 64) | st.just("1" * 64),
    seed=st.integers(0, 2**63),
    threads=st.none() | st.integers(1, 512),
    rate=st.floats(1e-6, 1e-2),
    names=st.dictionaries(st.text(min_size=1, max_size=20), st.sampled_from(["q4_0", "q6_k"]), max_size=3),
)
@example(source="Ä/é", data="\x85", sha256=None, seed=0, threads=None, rate=1e-3, names={"\u2028": "q4_0"})
def test_what_is_written_is_read_again(tmp_path_factory, source, data, sha256, seed, threads, rate, names):
    steps = (
        Step("prune", {"structure": "neuron", "criterion": "activation", "keep": 256}),
        Step("distill", {"steps": 12, "learning_rate": rate}),
        Step("quantize", {"formats": names, "solver": "gptq"}),
    )
    recipe = Recipe(source, steps, sha256=sha256, data=data, seed=seed, threads=threads)
    again = read(tmp_path_factory.mktemp("recipe"), recipe.to_yaml())
    assert again == recipe and again.to_yaml() == recipe.to_yaml()


def test_letters_of_any_language_stay_readable():
    assert "Bücher/日本.txt" in Recipe("a", (Step("quantize"),), data="Bücher/日本.txt").to_yaml()


def test_every_operation_can_be_a_step():
    needed = {
        "prune": {"structure": "layer", "criterion": "block_influence", "keep": 2},
        "distill": {"steps": 2},
        "finetune": {},
        "quantize": {},
    }
    assert set(operations()) == set(needed)
    for name, kind in operations().items():
        assert isinstance(Step(name, needed[name]).build(), kind)
        required = [field for field in dataclasses.fields(kind) if field.name in needed[name]]
        required = [field for field in required if field.default is dataclasses.MISSING]
        for field in required:
            rest = {key: value for key, value in needed[name].items() if key != field.name}
            with pytest.raises(RecipeError, match=f"{name} needs '{field.name}'"):
                Step(name, rest).build()


def test_all_faults_are_shown_together(tmp_path):
    found = faults(
        tmp_path,
        """
sorce: smollm2:135m
windows: 0
length: long
seed: -1
threads: true
steps:
  - {operation: quantise, default: q4_0}
  - {operation: quantize, defualt: q4_0, solvr: gptq}
  - {structure: layer}
  - {operation: prune, criterion: l2}
""",
    )
    for words in (
        "no recipe field 'sorce'. Did you mean 'source'?",
        "'source' must name a model",
        "'windows' must be a whole number of at least 1, not 0",
        "'length' must be a whole number of at least 16, not 'long'",
        "'seed' must be a whole number of at least 0, not -1",
        "'threads' must be a whole number of at least 1, not True",
        "step 1: There is no operation 'quantise'. Did you mean 'quantize'?",
        "step 2: There is no parameter of quantize 'defualt'. Did you mean 'default'?",
        "'solvr'. Did you mean 'solver'?",
        "step 3 has no 'operation'",
        "step 4: prune needs 'structure'",
    ):
        assert words in found, words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no mapping"),
        ("- a\n- b", "no mapping"),
        ("just words", "no mapping"),
        ("source: a", "'steps' must list"),
        ("source: a\nsteps: []", "'steps' must list"),
        ("source: a\nsteps: {operation: prune}", "'steps' must list"),
        ("source: a\nsteps: [prune]", "step 1 has no 'operation'"),
        ("source: 3\nsteps: [{operation: quantize}]", "'source' must name a model"),
        ("source: a\nformat: 2\nsteps: [{operation: quantize}]", "format 2 is not 1"),
        ("source: a\ndata: [x]\nsteps: [{operation: quantize}]", "'data'"),
        ("source: a\nsha256: 12\nsteps: [{operation: quantize}]", "'sha256'"),
        ("source: a\ndata_sha256: abc\nsteps: [{operation: quantize}]", "'data_sha256'"),
        ("source: a\nwindows: null\nsteps: [{operation: quantize}]", "'windows'"),
        ("source: a\nsteps: [{operation: 3}]", "step 1"),
        ("source: a\nsteps: [{operation: [quantize]}]", "step 1"),
        ("source: a\nsteps: [{operation: quantize, 3: q4_0}]", "parameter of quantize '3'"),
        ("source: a\nsteps: [{operation: quantize, solver: gtpq}]", "Did you mean 'gptq'"),
        ("source: a\nsteps: [{operation: quantize, default: q4_00}]", "Did you mean 'q4_0'"),
        ("source: a\nsteps: [{operation: quantize, formats: {m: q4_00}}]", "Did you mean 'q4_0'"),
        ("source: a\nsteps: [{operation: quantize, formats: q4_0}]", "formats"),
        ("source: a\nsteps: [{operation: quantize, damping: high}]", "damping"),
        ("source: a\nsteps: [{operation: quantize, damping: -1}]", "damping"),
        ("source: a\nsteps: [{operation: prune, structure: layers, criterion: block_influence, keep: 2}]", "step 1"),
        ("source: a\nsteps: [{operation: prune, structure: layer, criterion: block_influence, keep: x}]", "step 1"),
        ("source: a\nsteps: [{operation: distill, steps: many}]", "step 1"),
        ("source: a\nsteps: [{operation: distill, learning_rate: fast}]", "step 1"),
    ],
)
def test_a_fault_is_named(tmp_path, text, words):
    assert words in faults(tmp_path, text)


@pytest.mark.parametrize("content", [b"source: [", b"\xff\xfe", b"a: b: c", b"source: !!python/object:os.system x"])
def test_what_is_no_yaml_is_a_damaged_file(tmp_path, content):
    with pytest.raises(DamagedFile, match=r"recipe\.yaml is not YAML"):
        read(tmp_path, content)


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(ReferenceNotFound, match=r"none\.yaml"):
        Recipe.read(tmp_path / "none.yaml")
    with pytest.raises(ReferenceNotFound):
        Recipe.read(tmp_path)
