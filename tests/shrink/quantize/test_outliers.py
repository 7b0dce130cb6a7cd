"""A model whose first block does not stand 4 bits, as the real Mississippi 2B: the allocation finds it by measuring."""

from __future__ import annotations

import runpy
from pathlib import Path

import torch

from smidgen import formats
from smidgen.models.load import read_folder
from smidgen.models.model import Model
from smidgen.shrink.quantize.allocate import allocate, choices
from smidgen.shrink.quantize.quantize import Quantize
from smidgen.shrink.quantize.sensitivity import probe

TINY = runpy.run_path(str(Path(__file__).parents[2] / "tiny_mississippi.py"))
READERS = {"attention_input": ("query", "key", "value"), "mlp_input": ("gate", "up")}


def planted(model: Model) -> Model:
    """Give every fourth column of what reads the first block's norms ten times the size, and the norms a tenth."""
    model, large = model.clone(), torch.arange(model.anatomy.hidden_size) % 4 == 0
    block = model.anatomy.blocks[0]
    for site, norm in block.norm_before.items():
        model.weight(f"{norm}.weight").data[large] /= 10
        for role in READERS[site]:
            model.weight(block.projections[role].weight).data[:, large] *= 10
    return model


@torch.no_grad()
def divergence(source: Model, result: Model, ids: torch.Tensor) -> float:
    before, after = (each.module(ids).logits.log_softmax(-1) for each in (source, result))
    return float((before.exp() * (before - after)).sum(-1).mean())


def test_matrices_with_outliers_get_eight_bits(tmp_path: Path) -> None:
    TINY["write"](tmp_path / "model", "mistral", 256)
    plain = read_folder(tmp_path / "model", torch.float32)
    generator = torch.Generator().manual_seed(0)
    windows, held_out = (torch.randint(3, 350, (count, 64), generator=generator) for count in (6, 4))
    outlying = planted(plain)
    assert divergence(plain, outlying, held_out) < 1e-6
    block, found = plain.anatomy.blocks[0], {}
    for name, model in (("plain", plain), ("planted", outlying)):
        table = choices(model, probe(model, windows), allowed=("q4_k", "q8_0"))
        least, most = (
            sum(formats.find(kind).bytes_for(model.shape(each)) for each in table) for kind in ("q4_k", "q8_0")
        )
        chosen = allocate(table, least + (most - least) * 35 // 100)
        found[name] = {each: choice.format for each, choice in chosen.items()}
    reading = [block.projections[role].weight for roles in READERS.values() for role in roles]
    assert {found["planted"][name] for name in reading} == {"q8_0"}
    assert {found["plain"][block.projections[role].weight] for role in ("gate", "up")} == {"q4_k"}
    uniform, mixed = (
        divergence(outlying, Quantize(solver="nearest", **how).apply(outlying, windows), held_out)
        for how in ({"default": "q4_k"}, {"formats": found["planted"]})
    )
    assert mixed < uniform / 3
