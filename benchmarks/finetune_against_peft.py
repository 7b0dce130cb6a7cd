"""Claim: a LoRA step of smidgen takes no more time and memory than one of plain PEFT with transformers' Trainer.

    python benchmarks/finetune_against_peft.py [--model NAME] [--steps 6] [--rounds 3] [--batch 4] [--json]

Both train the same adapter (all linear layers of the blocks, the same rank and rate) on the same packed rows of the
built-in text, in processes of their own, in turn, both in bfloat16 where the processor multiplies it in hardware. Time
is the median over steps after the first, by the clock and as the processor's time, which other work on the machine
disturbs less; memory is the peak of the process. The ratios are smidgen's over the peer's: with the processor's time
and the memory at most 1.0 the claim holds, otherwise the exit code is 1.
"""

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch

RANK, RATE, SEED = 16, 1e-3, 0


def lesson(asked: argparse.Namespace) -> tuple[Any, Any, Any]:
    """Return the model, its packed rows and the operation that trains it."""
    from smidgen.data import builtin
    from smidgen.data.rows import Corpus
    from smidgen.models.load import load
    from smidgen.shrink.finetune import objectives
    from smidgen.shrink.finetune.finetune import Finetune

    model = load(asked.model)
    settings = {"objective": "unsupervised", "method": "lora", "rank": RANK, "learning_rate": RATE, "patience": 0}
    operation = Finetune(
        steps=asked.steps, batch_size=asked.batch, length=asked.length, schedule="constant", **settings
    )
    corpus = Corpus("text", builtin.calibration().rows[: asked.documents])
    objective = objectives.build("unsupervised", {})
    return model, objectives.pack(objective, corpus, model.tokenizer, length=asked.length, seed=SEED), operation


def peak() -> int:
    """Most bytes this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def ours(asked: argparse.Namespace, tick: Callable[[], None]) -> None:
    from dataclasses import replace

    from smidgen.shrink.finetune._lesson import Lesson
    from smidgen.shrink.finetune._loss import PackedLoss
    from smidgen.shrink.training import loop

    model, rows, operation = lesson(asked)
    trainee = Lesson(operation, model, rows, rows, lambda event: None).trainee()
    del model
    settings = replace(operation.loop_settings(RATE, asked.steps), trainable=trainee.names)
    loss = PackedLoss(trainee.model, rows)
    loop.train(trainee.model.module, len(rows.ids), loss, settings, progress=lambda event: tick())


def theirs(asked: argparse.Namespace, tick: Callable[[], None]) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from smidgen.shrink.finetune.adapters import targets
    from smidgen.shrink.precision import working_type

    class Ticking(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            tick()

    model, rows, _ = lesson(asked)
    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=list(targets(model, "all")), task_type="CAUSAL_LM")
    module = get_peft_model(model.module, config)
    del model
    labels = torch.where(rows.supervised, rows.ids, -100)
    data = [
        {"input_ids": ids, "labels": wanted, "position_ids": positions}
        for ids, wanted, positions in zip(rows.ids, labels, rows.positions, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            folder,
            max_steps=asked.steps,
            per_device_train_batch_size=asked.batch,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            use_cpu=True,
            bf16=working_type() is torch.bfloat16,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        Trainer(module, settings, train_dataset=data, callbacks=[Ticking()]).train()


def part(asked: argparse.Namespace) -> None:
    """Train in this process and print seconds per step and peak memory."""
    torch.set_num_threads(asked.threads)
    clock: list[float] = []
    processor: list[float] = []

    def tick() -> None:
        clock.append(time.perf_counter())
        processor.append(time.process_time())

    {"ours": ours, "theirs": theirs}[asked.part](asked, tick)
    found = {"seconds": between(clock), "processor_seconds": between(processor), "peak": peak()}
    print(json.dumps(found))


def between(times: list[float]) -> float:
    """Median of the spans between times."""
    return statistics.median(after - earlier for earlier, after in itertools.pairwise(times))


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="One LoRA step of smidgen against PEFT with Trainer.")
    parser.add_argument("--model", default="smollm2:135m")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--documents", type=int, default=40, help="texts of the built-in corpus to train on")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--part", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    words = sys.argv[1:] if words is None else words
    asked = arguments(words)
    if asked.part:
        part(asked)
        return 0
    found: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
    for _ in range(asked.rounds):
        for name, runs in found.items():
            command = [sys.executable, "-W", "ignore", __file__, *words, "--part", name]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            runs.append(json.loads(done.stdout.splitlines()[-1]))
    medians = {
        name: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for name, runs in found.items()
    }
    ratios = {key: medians["ours"][key] / medians["theirs"][key] for key in medians["ours"]}
    if asked.json:
        print(json.dumps({**medians, "ratios": ratios}, indent=2))
    else:
        print(f"One LoRA step on {asked.model}, {asked.batch} rows of {asked.length} tokens, {asked.threads} threads")
        print(f"{'per step':<18}{'seconds':>9}{'processor s':>13}{'peak MB':>11}")
        for name, label in (("ours", "smidgen"), ("theirs", "PEFT and Trainer")):
            each = medians[name]
            figures = f"{each['seconds']:>9.3f}{each['processor_seconds']:>13.3f}{each['peak'] / 1e6:>11.0f}"
            print(f"{label:<18}{figures}")
        print(f"{'ratio':<18}{ratios['seconds']:>9.3f}{ratios['processor_seconds']:>13.3f}{ratios['peak']:>11.3f}")
    return 0 if max(ratios["processor_seconds"], ratios["peak"]) <= 1 else 1


if __name__ == "__main__":
    raise SystemExit(main())
