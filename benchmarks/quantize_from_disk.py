"""Question: what memory and time does quantising a model from disk take, and does the memory grow with its depth?

    python benchmarks/quantize_from_disk.py [--layers 2,6] [--solver gptq,nearest] [--windows N] [--scale N]
        [--work FOLDER] [--json]

Writes models of random weights in Mistral 7B's true shapes (hidden 4096, MLP 14336, 32 heads of 128 with 8 for keys
and values, 32,000 tokens), bfloat16 in several files, with as many layers as asked for, and has ``smidgen quantize
--stream`` make a Q4_0 GGUF of each in a process of its own. Printed are that process's peak of resident memory, its
seconds and its processor seconds; the difference of two depths gives the time per billion parameters of a layer. A 7B
model has 32 layers: its time is that of one layer, 32 times, and its memory that of any depth. ``--scale 4`` divides
every width by four.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import MistralConfig, PreTrainedTokenizerFast

HIDDEN, NEURONS, HEAD, HEADS, GROUPS, TOKENS = 4096, 14336, 128, 32, 8, 32000


def configuration(layers: int, scale: int) -> MistralConfig:
    config = MistralConfig(
        hidden_size=HIDDEN // scale,
        intermediate_size=NEURONS // scale,
        num_attention_heads=HEADS // scale,
        num_key_value_heads=max(1, GROUPS // scale),
        head_dim=HEAD,
        num_hidden_layers=layers,
        vocab_size=TOKENS // scale,
        max_position_embeddings=4096,
        sliding_window=None,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
    )
    config.architectures = ["MistralForCausalLM"]
    return config


def shapes(config: MistralConfig, layer: int) -> dict[str, tuple[int, ...]]:
    hidden, neurons, path = config.hidden_size, config.intermediate_size, f"model.layers.{layer}"
    queries, shared = config.num_attention_heads * HEAD, config.num_key_value_heads * HEAD
    return {
        f"{path}.input_layernorm.weight": (hidden,),
        f"{path}.self_attn.q_proj.weight": (queries, hidden),
        f"{path}.self_attn.k_proj.weight": (shared, hidden),
        f"{path}.self_attn.v_proj.weight": (shared, hidden),
        f"{path}.self_attn.o_proj.weight": (hidden, queries),
        f"{path}.post_attention_layernorm.weight": (hidden,),
        f"{path}.mlp.gate_proj.weight": (neurons, hidden),
        f"{path}.mlp.up_proj.weight": (neurons, hidden),
        f"{path}.mlp.down_proj.weight": (hidden, neurons),
    }


def write_model(folder: Path, layers: int, scale: int = 1) -> int:
    """Write a random model, one file for each layer and one for the rest; returns its count of parameters."""
    folder.mkdir(parents=True)
    config, generator = configuration(layers, scale), torch.Generator().manual_seed(layers)
    ends = {
        "model.embed_tokens.weight": (config.vocab_size, config.hidden_size),
        "model.norm.weight": (config.hidden_size,),
    }
    ends["lm_head.weight"] = ends["model.embed_tokens.weight"]
    places: dict[str, str] = {}
    total = 0
    for number, group in enumerate([ends, *(shapes(config, layer) for layer in range(layers))]):
        file = f"model-{number:05d}.safetensors"
        state = {
            name: torch.ones(shape, dtype=torch.bfloat16)
            if len(shape) == 1
            else torch.empty(shape, dtype=torch.bfloat16).normal_(std=shape[1] ** -0.5, generator=generator)
            for name, shape in group.items()
        }
        save_file(state, folder / file, {"format": "pt"})
        places |= dict.fromkeys(state, file)
        total += sum(value.numel() for value in state.values())
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    config.save_pretrained(folder)
    letters = ["<unk>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    core = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(letters)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    words.save_pretrained(folder)
    return total


def measured(folder: Path, out: Path, solver: str, windows: int) -> dict[str, Any]:
    """Quantise a model in a process of its own and tell what that took."""
    words = ["quantize", str(folder), "--format", "q4_0", "--solver", solver, "--windows", str(windows), "--stream"]
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "smidgen", *words, "--out", str(out), "--force", "--quiet"])
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"smidgen quantize ended with {process.returncode}.")
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "solver": solver,
        "peak_bytes": used.ru_maxrss * unit,
        "seconds": round(time.monotonic() - started, 1),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 1),
        "bytes": out.stat().st_size,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--layers", default="2,6")
    parser.add_argument("--solver", default="gptq,nearest")
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(dir=chosen.work) as temporary:
        for layers in map(int, chosen.layers.split(",")):
            folder = Path(temporary) / f"source-{layers}"
            parameters = write_model(folder, layers, chosen.scale)
            for solver in chosen.solver.split(","):
                row = measured(folder, Path(temporary) / "small.gguf", solver, chosen.windows)
                rows.append({"layers": layers, "parameters": parameters, **row})
                if not chosen.json:
                    print(
                        f"{layers:3d} layers, {parameters / 1e9:.2f}B, {solver:8s} peak "
                        f"{row['peak_bytes'] / 1e9:5.2f} GB"
                        f"  {row['seconds']:7.1f} s  {row['processor_seconds']:7.1f} processor s",
                        flush=True,
                    )
    for solver in dict.fromkeys(row["solver"] for row in rows):
        few, *_, many = [row for row in rows if row["solver"] == solver] * 2
        if many["parameters"] > few["parameters"] and not chosen.json:
            more = (many["parameters"] - few["parameters"]) / 1e9
            seconds, busy = (many[name] - few[name] for name in ("seconds", "processor_seconds"))
            print(
                f"{solver}: {seconds / more:.0f} s and {busy / more:.0f} processor s per billion parameters of layers"
            )
    if chosen.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
