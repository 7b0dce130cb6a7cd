"""Makes a model that computes the same and carries no trace of an old grid: its hidden space turned at random.

    python benchmarks/rotate.py OUT [--model smollm2:135m] [--seed 0]

A model that was read from a quantised file has weights on that file's grid, and a quantizer that finds the grid again
looks better than it is. Here the weights of every norm go into the matrices that read it, then every matrix is
multiplied by one random orthogonal matrix Q: those that read the hidden state become W Q, those that add to it
Qᵀ W, the embedding E Q. An RMS norm of weight 1 does not notice (arXiv 2404.00456). Embedding and head are untied,
since only the head takes the last norm's weight. OUT is a folder that plain transformers loads, in float16.
"""

import argparse
import copy
import sys
from dataclasses import replace
from pathlib import Path

import torch

from smidgen.errors import SmidgenError, Unsupported
from smidgen.export import safetensors
from smidgen.models.anatomy import SITE_ROLES, Anatomy
from smidgen.models.load import load
from smidgen.models.model import Model

WRITING = ("output", "down")
"""Roles of the projections that add to the hidden state."""


def rotation(width: int, seed: int) -> torch.Tensor:
    """Return a random orthogonal matrix, float64 ``[width, width]``.

    Example:
        >>> turn = rotation(8, seed=0)
        >>> bool(((turn.T @ turn) - torch.eye(8)).abs().max() < 1e-12)
        True
    """
    generator = torch.Generator().manual_seed(seed)
    turn: torch.Tensor = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))[0]
    return turn


def rotated(model: Model, turn: torch.Tensor) -> Model:
    """Return a model whose hidden states are those of the given one times ``turn``, and whose logits are the same.

    Raises:
        Unsupported: Something scales the hidden state after a projection.
    """
    anatomy = model.anatomy
    if any(block.norm_after or block.experts for block in anatomy.blocks):
        raise Unsupported(f"{model.config.model_type} scales what it adds to the hidden state, so it cannot be turned.")
    state = {name: value.double() for name, value in model.module.state_dict().items()}
    head, last = f"{anatomy.head}.weight", f"{anatomy.final_norm}.weight"
    state[head] = (state[f"{anatomy.embedding}.weight" if anatomy.tied else head] * state[last]) @ turn
    state[f"{anatomy.embedding}.weight"] = state[f"{anatomy.embedding}.weight"] @ turn
    state[last] = torch.ones_like(state[last])
    for block in anatomy.blocks:
        for site, path in block.norm_before.items():
            for name in dict.fromkeys(block.projections[role].weight for role in SITE_ROLES[site]):
                state[name] = (state[name] * state[f"{path}.weight"]) @ turn
            state[f"{path}.weight"] = torch.ones_like(state[f"{path}.weight"])
        for role in WRITING:
            name = block.projections[role].weight
            state[name] = turn.T @ state[name]
    return replace(model, module=_untied(model, anatomy, state), packed={}).with_step("rotate")


def _untied(model: Model, anatomy: Anatomy, state: dict[str, torch.Tensor]) -> torch.nn.Module:
    config = copy.deepcopy(model.config)
    config.tie_word_embeddings = False
    module: torch.nn.Module = type(model.module)._from_config(config, dtype=torch.float32)
    module.load_state_dict({name: value.float() for name, value in state.items()})
    module.generation_config = model.module.generation_config
    return module.eval()


def main(words: list[str] | None = None) -> int:
    """Write the turned model."""
    parser = argparse.ArgumentParser(description="Turn a model's hidden space at random; it computes the same.")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--model", default="smollm2:135m")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(words)
    try:
        source = load(asked.model)
        result = rotated(source, rotation(source.anatomy.hidden_size, asked.seed))
        ids = torch.arange(40)[None] % source.config.vocab_size
        with torch.no_grad():
            off = (result.module(ids).logits - source.module(ids).logits).abs().max()
        safetensors.write(result, asked.out, dtype="float16")
    except SmidgenError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{asked.out}: logits differ by at most {float(off):.1e} in float32")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
