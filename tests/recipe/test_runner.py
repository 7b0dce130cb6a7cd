"""Steps are kept under the hash of what decides them, and a killed chain ends in the same bytes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from smidgen.data.resolve import CalibrationData
from smidgen.data.rows import Corpus, Row
from smidgen.errors import Unsupported
from smidgen.export import gguf
from smidgen.models.families import for_architecture
from smidgen.models.files import sha256_of
from smidgen.models.load import load
from smidgen.recipe import runner as runner_file
from smidgen.recipe.materials import Materials
from smidgen.recipe.recipe import Step
from smidgen.recipe.runner import Runner

TEXT = "\n\n".join(f"{number} def function_{number}(value): return value + {number}  # café" for number in range(120))
STEPS = (
    Step("prune", {"structure": "layer", "criterion": "block_influence", "keep": 3}),
    Step("prune", {"structure": "neuron", "criterion": "activation", "keep": 96}),
    Step("distill", {"steps": 12, "batch_size": 2, "learning_rate": 1e-3}),
    Step("quantize", {"default": "q4_0"}),
    Step("distill", {"steps": 8, "batch_size": 2, "trainable": "norms"}),
)


def materials_of(source, **changes) -> Materials:
    corpus = Corpus("made up", (Row(TEXT),))
    texts = CalibrationData(corpus, corpus, corpus, True)
    return Materials(
        **({"source": load(str(source)), "texts": texts, "windows": 4, "length": 64, "seed": 0, "threads": 1} | changes)
    )


@pytest.fixture
def materials(source) -> Materials:
    return materials_of(source)


def silent(event):
    pass


def test_a_chain_goes_on_from_what_an_earlier_one_kept(materials, tmp_path):
    first, seen = Runner(materials, tmp_path, silent), []
    _, done = first.run(STEPS[:2])
    again = Runner(materials, tmp_path, seen.append)
    model, records = again.run([*STEPS[:2], STEPS[3]])
    starts = [event.stage for event in seen if event.stage.endswith(": starting")]
    assert starts == ["quantize: starting"]
    assert records[:2] == done and [record.operation for record in records] == ["prune", "prune", "quantize"]
    assert len(model.anatomy.blocks) == 3 and model.anatomy.blocks[0].neurons == 96
    assert model.packed and len(materials.source.anatomy.blocks) == 4 and not materials.source.packed
    assert records[2].parameters == {"default": "q4_0"} and records[2].curves is None


def test_the_same_chain_again_runs_nothing_and_gives_the_same_model(materials, tmp_path):
    model, records = Runner(materials, tmp_path, silent).run(STEPS[2:4])
    seen = []
    again, kept = Runner(materials, tmp_path, seen.append).run(STEPS[2:4])
    assert not seen and kept == records
    assert all(torch.equal(value, again.module.state_dict()[name]) for name, value in model.module.state_dict().items())
    assert records[0].curves is not None and records[0].curves["training"]
    assert not list(tmp_path.rglob("checkpoints"))


def test_no_steps_give_the_source(materials, tmp_path):
    model, records = Runner(materials, tmp_path, silent).run([])
    assert model is materials.source and records == []


def keys(materials, tmp_path, steps=STEPS) -> list[str]:
    return Runner(materials, tmp_path, silent)._keys(steps)


def test_whatever_decides_the_outcome_is_in_the_key(materials, source, tmp_path, monkeypatch):
    plain = keys(materials, tmp_path)
    assert len(set(plain)) == len(STEPS) and plain == keys(materials_of(source), tmp_path)
    changed = (STEPS[0], Step("prune", {**STEPS[1].parameters, "keep": 64}), *STEPS[2:])
    found = keys(materials, tmp_path, changed)
    assert found[0] == plain[0] and not set(found[1:]) & set(plain)
    other = replace(materials.source.lineage.origin, sha256="1" * 64)
    for change in (
        {"seed": 1},
        {"windows": 5},
        {"length": 32},
        {"threads": 2},
        {"texts": replace(materials.texts, calibration=Corpus("made up", (Row(TEXT + "."),)))},
        {"source": replace(materials.source, lineage=replace(materials.source.lineage, origin=other))},
    ):
        assert not set(keys(replace(materials, **change), tmp_path)) & set(plain), change
    monkeypatch.setattr(runner_file, "code_version", lambda: "another")
    assert not set(keys(materials, tmp_path)) & set(plain)


def test_the_order_of_parameters_does_not_matter(materials, tmp_path):
    turned = [Step(step.operation, dict(reversed(list(step.parameters.items())))) for step in STEPS]
    assert keys(materials, tmp_path, turned) == keys(materials, tmp_path)


def test_a_step_that_fails_leaves_nothing_that_counts(materials, tmp_path):
    def fail(event):
        if event.stage == "quantizing" and event.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Runner(materials, tmp_path, fail).run([STEPS[3]])
    assert not list(tmp_path.rglob("done.json")) and not list(tmp_path.rglob("*.safetensors"))
    model, _ = Runner(materials, tmp_path, silent).run([STEPS[3]])
    assert len(model.packed) == len(model.anatomy.matrices())


JOB = """
import runpy, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
test = runpy.run_path({test!r})
from smidgen.errors import Unsupported
from smidgen.export import gguf
from smidgen.recipe.runner import Runner
materials = test["materials_of"](Path({source!r}))

def job(progress):
    model, _ = Runner(materials, Path({folder!r}) / "steps", progress).run(test["STEPS"])
    gguf.write(model, Path({folder!r}) / "result.gguf", progress=progress)
"""


def test_killed_anywhere_and_started_again_it_ends_in_the_same_bytes(materials, source, tmp_path, killed):
    events = []
    model, _ = Runner(materials, tmp_path / "undisturbed", events.append).run(STEPS)
    gguf.write(model, tmp_path / "undisturbed.gguf", progress=events.append)
    (tmp_path / "killed").mkdir()
    script = JOB.format(test=__file__, source=str(source), folder=str(tmp_path / "killed"))
    ended = killed(script, kills=6, events=len(events), seed=11)
    assert ended.count(9) >= 3, ended
    assert sha256_of(tmp_path / "killed" / "result.gguf") == sha256_of(tmp_path / "undisturbed.gguf")
    records = [json.loads(path.read_text()) for path in (tmp_path / "killed").rglob("done.json")]
    assert len(records) == len(STEPS)


def test_an_uneven_chain_is_kept_between_steps_and_refused_where_nothing_could_run_it(materials, tmp_path):
    uneven = Step("prune", {"structure": "neuron", "allocation": [32, 128, 96, 0]})
    model, _ = Runner(materials, tmp_path / "a", silent).run([uneven])
    seen = []
    again, _ = Runner(materials, tmp_path / "a", seen.append).run([uneven])
    assert not seen and [block.neurons for block in again.anatomy.blocks] == [32, 128, 96, 0]
    assert all(torch.equal(value, again.module.state_dict()[name]) for name, value in model.module.state_dict().items())
    other = replace(materials, source=replace(materials.source, family=for_architecture("Qwen2ForCausalLM")))
    with pytest.raises(Unsupported, match="all alike"):
        Runner(other, tmp_path / "b", silent).run([uneven])
    assert not (tmp_path / "b").exists()
