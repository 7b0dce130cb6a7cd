"""What each solver keeps of a model that was trained, on text that it was not calibrated on."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as functional

from smidgen import divergence, formats
from smidgen.errors import InvalidInput
from smidgen.models.streamed import StreamedModel
from smidgen.shrink.quantize import solvers
from smidgen.shrink.quantize.quantize import Quantize

FORMAT = "integer:bits=3,group=32"


@pytest.fixture(scope="module")
def trained(tiny_model, text):
    torch.set_num_threads(1)
    model = tiny_model(initializer_range=0.05, tie_word_embeddings=False, num_hidden_layers=2)
    ids = torch.tensor(model.tokenizer(text)["input_ids"])
    rows = ids[: len(ids) // 64 * 64].reshape(-1, 64)
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.module.parameters(), lr=4e-3)
    for _ in range(60):
        batch = rows[:-16][torch.randint(0, len(rows) - 16, (8,))]
        loss = functional.cross_entropy(model.module(batch).logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 4.5  # of 6 before training
    return model, rows[:24], rows[-16:]


def kl_of(model, made, windows) -> float:
    with torch.no_grad():
        ours, theirs = (each.module(windows, use_cache=False).logits.flatten(0, 1) for each in (model, made))
    return float(divergence.kl(ours, theirs).mean())


def in_blocks(model) -> dict[str, str]:
    return {name: FORMAT for name, part in model.anatomy.matrices().items() if part not in ("embedding", "head")}


def test_every_solver_keeps_more_than_rounding_does(trained):
    model, calibration, held_out = trained
    found = {
        solver: kl_of(model, Quantize(in_blocks(model), solver=solver).apply(model, calibration), held_out)
        for solver in ("nearest", "gptq", "scale", "learned")
    }
    assert found["gptq"] < 0.8 * found["nearest"], found
    assert found["gptq"] < found["learned"] < 0.95 * found["nearest"], found
    assert found["scale"] < found["nearest"], found


@pytest.mark.parametrize("family", ["llama", "qwen2", "phimoe"])
def test_scaling_changes_norms_and_nothing_that_is_computed(family, tiny_model, windows, monkeypatch):
    kept = tiny_model(
        family,
        tie_word_embeddings=False,
        num_hidden_layers=2,
        **({"num_local_experts": 2} if family == "phimoe" else {}),
    )
    kind = type(solvers.find("scale"))
    generator = torch.Generator().manual_seed(0)
    monkeypatch.setattr(
        kind, "channel_scales", lambda self, weight, *_: torch.rand(weight.shape[1], generator=generator) + 0.5
    )
    made = Quantize(dict.fromkeys(in_blocks(kept), "integer:bits=8,group=8"), solver="scale").apply(kept, windows)
    with torch.no_grad():
        expected, found = (each.module(windows, use_cache=False).logits for each in (kept, made))
    if family != "phimoe":  # a router that nearly hesitates takes other experts at the least change
        assert torch.allclose(found, expected, atol=0.1 * float(expected.abs().max()))
    block = kept.anatomy.blocks[0]
    changed = [
        path for path in block.norms if not torch.equal(kept.weight(f"{path}.weight"), made.weight(f"{path}.weight"))
    ]
    # Where experts share a norm with their router, it is left alone.
    assert changed == [block.norm_before["attention_input"]] + [block.norm_before["mlp_input"]] * (family != "phimoe")
    for name, stored in made.packed.items():
        assert torch.equal(made.weight(name), formats.find(stored.format).unpack(stored.data)), name


def test_scaling_finds_the_channels_that_are_large():
    generator = torch.Generator().manual_seed(0)
    sizes = torch.where(torch.arange(64) % 16 == 0, 20.0, 1.0)
    inputs = torch.randn(512, 64, generator=generator) * sizes
    weight, hessian = torch.randn(48, 64, generator=generator), inputs.T @ inputs / 512
    coarse = formats.find(FORMAT)
    scales = solvers.find("scale").channel_scales(weight, hessian, coarse)
    assert scales is not None and float(scales[::16].min()) > 1.5 * float(scales[1])

    def damage(values):
        change = values - weight
        return float(((change @ hessian) * change).sum())

    scaled = solvers.find("scale").solve(weight * scales, hessian / scales.outer(scales), coarse)
    plain = solvers.find("nearest").solve(weight, hessian, coarse)
    assert damage(coarse.unpack(scaled) / scales) < 0.9 * damage(coarse.unpack(plain))


def test_scaling_a_model_on_disk_is_refused(tiny_model, windows, tmp_path):
    model = tiny_model(tie_word_embeddings=False)
    streamed = StreamedModel(model.module, model.tokenizer, model.family, model.lineage)
    with pytest.raises(InvalidInput, match="changes norms"):
        Quantize(default="q4_0", solver="scale", formats={}).apply(streamed, windows, work=tmp_path / "work")


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_codebooks_are_compensated_too(bits):
    torch.manual_seed(bits)
    inputs = torch.randn(512, 12) @ torch.randn(12, 64) + 0.2 * torch.randn(512, 64)
    weight, hessian, kmeans = torch.randn(24, 64), inputs.T @ inputs / 512, formats.find(f"kmeans:bits={bits}")

    def damage(packed):
        change = kmeans.unpack(packed) - weight
        return float(((change @ hessian) * change).sum())

    rounded, stored = (solvers.find(name).store(weight, hessian, kmeans) for name in ("nearest", "gptq"))
    assert stored.shape == rounded.shape and damage(stored) < 0.5 * damage(rounded)


def test_codebooks_without_statistics_are_rounded():
    weight, kmeans = torch.randn(8, 64), formats.find("kmeans:bits=3")
    assert torch.equal(solvers.find("gptq").store(weight, None, kmeans), kmeans.quantize(weight))
