"""Claims: a distillation step with a vocabulary of 128k takes under half the memory of the plain one; a cache pays.

    python benchmarks/distill_cost.py [--only memory|cache|trl] [--steps 3] [--repeats 3] [--small] [--trl FOLDER]

Training from the cache is at least 1.8 times as fast per step as asking the live teacher, where that is 4 times the
student. The models are random Llamas, since neither memory nor time depends on what they know. Every side runs in a
process of its own, the sides take turns, and medians and ratios are printed. Memory is the largest resident set less
that before the first model was made; it holds weights, gradients, moments and everything that a step needs. "Plain" is
the step as textbooks write it: logits of both models whole, KL by ``torch.nn.functional.kl_div``.

``--trl`` names a folder into which ``pip install --no-deps --target FOLDER trl`` put that package; then one step of its
GKDTrainer (off-policy, forward KL, same models, tokens, optimizer and number type) is compared as well. Where a claim
does not hold the exit code is 1. What was measured is recorded in EXPERIMENTS.md.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

PROCESSOR = "SMIDGEN_BENCHMARK_PROCESSOR_TIME"
MEMORY_AT_MOST, SPEED_AT_LEAST = 0.5, 1.8


@dataclass(frozen=True)
class Setting:
    """What is trained on what.

    Attributes:
        student: Hidden width, layers and heads of the student.
        teacher: The same of the teacher.
        vocabulary: Tokens of both.
        batch: Rows per step.
        length: Tokens per row.
    """

    student: tuple[int, int, int]
    teacher: tuple[int, int, int]
    vocabulary: int
    batch: int
    length: int


SETTINGS = {
    "memory": Setting((256, 4, 4), (256, 4, 4), 131_072, 4, 256),
    "cache": Setting((384, 12, 6), (768, 13, 12), 16_384, 4, 256),
    "trl": Setting((384, 12, 6), (768, 13, 12), 16_384, 4, 256),
}
SMALL = {
    "memory": Setting((64, 2, 4), (64, 2, 4), 131_072, 2, 128),
    "cache": Setting((64, 4, 4), (128, 4, 4), 1_024, 2, 64),
    "trl": Setting((64, 2, 4), (64, 2, 4), 4_096, 2, 64),
}
SIDES = {"memory": ("plain", "smidgen"), "cache": ("live", "cached"), "trl": ("trl", "smidgen")}


def clock() -> float:
    """Return seconds of the clock that is asked for."""
    return time.process_time() if os.environ.get(PROCESSOR) else time.perf_counter()


def resident(kind: str) -> int:
    """Return bytes of ``VmRSS`` (now) or ``VmHWM`` (at most so far) of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{kind}:"):
            return 1024 * int(line.split()[1])
    raise SystemExit("This system does not tell a process's memory; the benchmark needs Linux.")


def build(shape: tuple[int, int, int], vocabulary: int, seed: int) -> Any:
    """Make a random model that smidgen can train."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from smidgen.models import families
    from smidgen.models.lineage import Lineage, Origin
    from smidgen.models.model import Model

    torch.manual_seed(seed)
    width, layers, heads = shape
    config = LlamaConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        intermediate_size=3 * width,
        vocab_size=vocabulary,
        tie_word_embeddings=True,
    )
    module = LlamaForCausalLM(config).eval()
    core = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="b"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="a", eos_token="b")
    origin = Origin("random", "0" * 64, 1, module.num_parameters())
    return Model(module, tokenizer, families.for_architecture("LlamaForCausalLM"), Lineage(origin))


def measure(setting: Setting, side: str, steps: int) -> dict[str, float]:
    """Take some steps on one side, after one for warming up; returns seconds per step and bytes at most."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    run = {"plain": plain, "trl": gkd}.get(side, smidgen_step)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(2, setting.vocabulary, (setting.batch * (steps + 1), setting.length), generator=generator)
    before = resident("VmRSS")
    student, teacher = (
        build(shape, setting.vocabulary, seed) for seed, shape in enumerate([setting.student, setting.teacher])
    )
    sizes = [model.parameter_count() for model in (student, teacher)]
    times = run(student, teacher, ids, setting.batch, side)
    return {
        "seconds": statistics.median(times[-steps:]),
        "bytes": resident("VmHWM") - before,
        "student": sizes[0],
        "teacher": sizes[1],
    }


def smidgen_step(student: Any, teacher: Any, ids: Any, batch: int, side: str) -> list[float]:
    """Train with smidgen; where the cache is measured, it is filled before."""
    from smidgen.shrink.distill.distill import Distill

    steps = len(ids) // batch
    marks: list[float] = []

    def progress(event: Any) -> None:
        if event.stage == "distilling":
            marks.append(clock())

    distill = Distill(steps=steps, batch_size=batch, teacher="cached" if side == "cached" else "live", warmup=0.0)
    with tempfile.TemporaryDirectory() as folder:
        if side == "cached":
            distill.run(student, teacher, ids, ids[:0], checkpoints=Path(folder))
            marks.clear()
            distill = replace(distill, seed=1)
        distill.run(student, teacher, ids, ids[:0], checkpoints=Path(folder), progress=progress)
    return [later - earlier for earlier, later in itertools.pairwise(marks)]


def plain(student: Any, teacher: Any, ids: Any, batch: int, side: str) -> list[float]:
    """Train with whole logits, in the same number types."""
    import torch
    import torch.nn.functional as functional

    from smidgen.shrink.precision import autocast

    optimizer = torch.optim.AdamW(student.module.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    times = []
    for rows in ids.split(batch):
        started = clock()
        with autocast():
            with torch.no_grad():
                theirs = teacher.module(input_ids=rows, use_cache=False).logits[:, :-1].flatten(0, 1).float()
            mine = student.module(input_ids=rows, use_cache=False).logits[:, :-1].flatten(0, 1).float()
            wanted = functional.log_softmax(theirs, -1)
            loss = functional.kl_div(functional.log_softmax(mine, -1), wanted, reduction="batchmean", log_target=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(clock() - started)
    return times


def gkd(student: Any, teacher: Any, ids: Any, batch: int, side: str) -> list[float]:
    """Train with TRL's GKDTrainer, off-policy."""
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl.experimental.gkd import GKDConfig, GKDTrainer

    from smidgen.shrink.precision import working_type

    marks: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            marks.append(-clock())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks[-1] += clock()

    def collate(examples: list[dict[str, Any]]) -> dict[str, Any]:
        rows = torch.tensor([example["input_ids"] for example in examples])
        mask = torch.ones_like(rows)
        keys = ("input_ids", "attention_mask", "labels", "prompts", "prompt_attention_mask")
        return dict(zip(keys, (rows, mask, rows.clone(), rows[:, :1], mask[:, :1]), strict=True))

    with tempfile.TemporaryDirectory() as folder:
        settings = GKDConfig(
            output_dir=folder,
            per_device_train_batch_size=batch,
            max_steps=len(ids) // batch,
            learning_rate=1e-4,
            lmbda=0.0,
            beta=0.0,
            temperature=1.0,
            bf16=working_type() == torch.bfloat16,
            use_cpu=True,
            gradient_checkpointing=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_steps=1000,
        )
        trainer = GKDTrainer(
            student.module,
            teacher.module,
            settings,
            data_collator=collate,
            train_dataset=Dataset.from_dict({"input_ids": ids.tolist()}),
            processing_class=student.tokenizer,
            callbacks=[Clock()],
        )
        trainer.train()
    return marks


def in_process(setting: Setting, side: str, steps: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Measure one side in a process of its own."""
    environment = dict(os.environ) | ({PROCESSOR: "1"} if arguments.processor_time else {})
    if side == "trl":
        environment["PYTHONPATH"] = str(arguments.trl)
    words = [sys.executable, __file__, "--part", json.dumps([asdict(setting), side, steps])]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(name: str, setting: Setting, arguments: argparse.Namespace) -> dict[str, Any]:
    """Let both sides take turns; returns medians and the ratio of the first side to the second."""
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES[name]}
    for _ in range(arguments.repeats):
        for side in found:
            found[side].append(in_process(setting, side, arguments.steps, arguments))
    medians = {
        side: {key: statistics.median(each[key] for each in runs) for key in runs[0]} for side, runs in found.items()
    }
    one, other = (medians[side] for side in SIDES[name])
    ratios = {key: one[key] / other[key] for key in ("seconds", "bytes")}
    return {"name": name, "setting": asdict(setting), "medians": medians, "ratios": ratios}


def holds(result: dict[str, Any]) -> bool:
    """Whether a result bears its claim out; against TRL none is made."""
    ratios = result["ratios"]
    if result["name"] == "memory":
        return bool(1 / ratios["bytes"] < MEMORY_AT_MOST)
    return bool(result["name"] == "trl" or ratios["seconds"] >= SPEED_AT_LEAST)


def show(result: dict[str, Any]) -> None:
    """Print one comparison."""
    one, other = SIDES[result["name"]]
    for side, median in result["medians"].items():
        weights = f"{median['student'] / 1e6:.1f}M student, {median['teacher'] / 1e6:.1f}M teacher"
        print(
            f"{result['name']:8}{side:10}{median['seconds']:8.3f} s/step {median['bytes'] / 1e6:9.0f} MB  ({weights})"
        )
    ratios = result["ratios"]
    print(f"{'':8}{one} / {other}: time {ratios['seconds']:.2f}, memory {ratios['bytes']:.2f}")


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(SETTINGS))
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="tiny models: shows that the script runs, proves nothing")
    parser.add_argument("--trl", metavar="FOLDER")
    parser.add_argument(
        "--processor-time", action="store_true", help="count the processor's seconds: for busy machines"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        given, side, steps = json.loads(arguments.part)
        setting = Setting(**{key: tuple(value) if isinstance(value, list) else value for key, value in given.items()})
        print(json.dumps(measure(setting, side, steps)))
        return
    names = [arguments.only] if arguments.only else [name for name in SETTINGS if name != "trl" or arguments.trl]
    if arguments.only == "trl" and not arguments.trl:
        parser.error("--only trl needs --trl FOLDER")
    results = []
    for name in names:
        results.append(compare(name, (SMALL if arguments.small else SETTINGS)[name], arguments))
        if not arguments.json:
            show(results[-1])
    if arguments.json:
        print(json.dumps(results))
    sys.exit(0 if all(map(holds, results)) else 1)


if __name__ == "__main__":
    main()
