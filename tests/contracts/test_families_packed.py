"""Folders of packed matrices, tried on every family of models: they compute what their unpacked weights would."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from smidgen.export import packed, safetensors
from smidgen.models.load import read_folder
from smidgen.models.packed import is_packed
from smidgen.models.packed import read_folder as read_packed
from smidgen.shrink.quantize.quantize import Quantize

# One case of each family: the others differ in what is no matrix.
_OTHER = runpy.run_path(str(Path(__file__).parent / "test_families_contract.py"))
CASES, SMALL = _OTHER["CASES"], _OTHER["SMALL"]


@pytest.mark.parametrize(
    "name", ["gemma2", "gemma3", "llama-untied", "mistral-whole", "phi3-short", "phimoe-plain", "qwen2-tied"]
)
def test_it_runs_from_its_bytes(name: str, tmp_path: Path, published_tokenizer: Any) -> None:
    case = CASES[name]
    config = case.kind(**(SMALL | case.changes | {"max_position_embeddings": 512}))
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).eval().save_pretrained(tmp_path / "model")
    published_tokenizer(case.splitting, config.vocab_size).save_pretrained(tmp_path / "model")
    ids = torch.randint(3, 400, (1, 24), generator=torch.Generator().manual_seed(1))
    small = Quantize(default="integer:bits=6,group=16", solver="nearest").apply(
        read_folder(tmp_path / "model", torch.float32), ids
    )
    packed.write(small, tmp_path / "small", dtype="float32")
    again = read_packed(tmp_path / "small", torch.float32, hold=True)
    whole = read_folder(tmp_path / "small", torch.float32)
    assert is_packed(again.module) and not is_packed(whole.module)
    with torch.no_grad():
        expected = small.module(ids).logits
        for each in (again, whole):
            torch.testing.assert_close(each.module(ids).logits, expected, atol=2e-4, rtol=1e-4)
    safetensors.write(whole, tmp_path / "floats", dtype="float32")
    with torch.no_grad():
        found = AutoModelForCausalLM.from_pretrained(tmp_path / "floats", dtype=torch.float32)(ids).logits
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)
