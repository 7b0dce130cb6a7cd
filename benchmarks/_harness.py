"""What the comparisons with lm-evaluation-harness share: running it on local tasks, offline, and comparing figures.

The harness runs in a process of its own, best in an environment of its own: ``pip install "lm-eval[api]==0.4.13"``
beside torch and transformers.
"""

import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOLERANCE = 1e-3
"""Nats by which log-likelihoods of the same tokens may differ."""

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "OPENAI_API_KEY": "none",
    "TOKENIZERS_PARALLELISM": "false",
}


@dataclass(frozen=True)
class Harness:
    """The harness as it is called.

    Attributes:
        command: Its command, words apart by spaces: "lm_eval" or "python -m lm_eval".
        threads: Threads of its arithmetic; all where None.
    """

    command: str
    threads: int | None = None

    def samples(
        self, model: str, arguments: Mapping[str, Any], tasks: Mapping[str, str], *, batch: int = 4
    ) -> tuple[dict[str, list[dict[str, Any]]], float]:
        """Let the harness score tasks.

        Args:
            model: Its kind of model ("hf", "local-completions").
            arguments: What it is told of the model.
            tasks: The YAML of each task by its name.
            batch: Requests at a time.

        Returns:
            Of each task what the harness logs of every item, in the order of the file; and its seconds of processor
            time.
        """
        environment = {**os.environ, **OFFLINE}
        if self.threads is not None:
            environment |= {f"{name}_NUM_THREADS": str(self.threads) for name in ("OMP", "MKL", "OPENBLAS")}
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for task, text in tasks.items():
                (folder / f"{task}.yaml").write_text(f"task: {task}\n{text}", encoding="utf-8")
            told = ",".join(f"{key}={value}" for key, value in arguments.items())
            words = [*shlex.split(self.command), "--model", model, "--model_args", told, "--tasks", ",".join(tasks)]
            words += ["--include_path", str(folder), "--device", "cpu"]
            words += ["--log_samples", "--output_path", str(folder / "out")]
            before = processor_seconds()
            subprocess.run([*words, "--batch_size", str(batch)], check=True, env=environment, stdout=sys.stderr)
            seconds = processor_seconds() - before
            return {task: _logged(folder / "out", task) for task in tasks}, seconds


def processor_seconds() -> float:
    """Return the processor time of this process and of its ended children, in seconds."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _logged(folder: Path, task: str) -> list[dict[str, Any]]:
    (file,) = folder.rglob(f"samples_{task}_[0-9]*.jsonl")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return sorted(rows, key=lambda row: int(row["doc_id"]))


def likelihoods(samples: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """Return every choice's log-likelihood of logged items."""
    return [[float(choice[0][0]) for choice in row["resps"]] for row in samples]


def largest_difference(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> float:
    """Return the largest difference of two tables of log-likelihoods, in nats."""
    pairs = zip(ours, theirs, strict=True)
    return max(abs(one - other) for row, others in pairs for one, other in zip(row, others, strict=True))
