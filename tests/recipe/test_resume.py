"""A `make` that is killed at any moment ends in what an undisturbed `apply` of its plan gives."""

from __future__ import annotations

import json
import random

from smidgen.models.files import sha256_of
from smidgen.recipe.make import apply

KILLS = 5
EVENTS = 170
"""About how many events an undisturbed run reports."""

JOB = """
import torch
from smidgen.recipe.make import make
{hurry}
import smidgen.evaluate.quality, smidgen.evaluate.report.page, smidgen.evaluate.samples, smidgen.evaluate.speed
from smidgen.models.load import load
load({source!r})  # what children need again and again is imported once

def job(progress):
    make({source!r}, fit=74_000, within=64, data={data!r}, out={out!r}, threads=1, progress=progress)
"""


def test_killed_five_times_it_ends_as_undisturbed(source, data, tmp_path, killed, hurry, hurried):
    out = tmp_path / "out"
    script = JOB.format(source=str(source), data=str(data), out=str(out), hurry=hurry)
    ended = killed(script, kills=KILLS, events=EVENTS, seed=random.Random(8).randrange(1 << 30))
    assert ended.count(9) >= 3, ended
    receipt = json.loads((out / "receipt.json").read_text())
    operations = [step["operation"] for step in receipt["steps"]]
    assert operations[0] == "prune" and {"distill", "quantize"} <= set(operations)
    assert not [path for path in out.rglob("*") if path.name.startswith(".tmp")]
    assert {path.name for path in (out / ".smidgen").iterdir()} == {"lock", "plan.json"}

    again = apply(out / "recipe.yaml", out=tmp_path / "again")
    assert sha256_of(out / "model.gguf") == again.receipt["result"]["sha256"] == receipt["result"]["sha256"]
    for path in sorted((out / "model").iterdir()):
        assert path.read_bytes() == (again.folder / "model" / path.name).read_bytes(), path.name
