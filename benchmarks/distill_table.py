"""Question: which distillation loss heals a pruned model best with the same few tokens?

    python benchmarks/distill_table.py [--tokens 15360] [--keep 26] [--seeds 3] [--only NAME] [--work FOLDER] [--json]

Layers of the source go by block influence until ``--keep`` are left. From this one start every loss (and plain
cross-entropy) trains with seed 0 on the same tokens of the built-in calibration text, all weights, no watch, the last
weights count. The best three are repeated with more seeds, so that the spread is known. What is measured is the mean
divergence of source ‖ result in nats per token, the share of tokens with the same top choice, and bits per byte, on
windows of the built-in held-out text (the second half of each counts). Stopped at any moment, the same command goes on:
finished rows and trainings under way are kept in ``--work``. The table in docs/ and what was decided from it stand in
EXPERIMENTS.md.
"""

import argparse
import hashlib
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from smidgen.data import builtin
from smidgen.data.packing import windows
from smidgen.errors import SmidgenError
from smidgen.evaluate.quality import compare_models
from smidgen.models.files import atomic_path, make_folder
from smidgen.models.load import load
from smidgen.models.model import Model
from smidgen.progress import Event
from smidgen.shrink.distill.distill import Distill
from smidgen.shrink.prune.prune import Prune

REVERSE, BETWEEN = {"weight": 1.0, "direction": "reverse"}, {"weight": 1.0, "direction": "jensen_shannon"}
SOFT = {"soft_output": 1.0}
ROWS: dict[str, dict[str, Any]] = {
    "hard_output (cross-entropy)": {"losses": {"hard_output": 1.0}},
    "soft_output forward": {"losses": SOFT},
    "soft_output reverse": {"losses": {"soft_output": REVERSE}},
    "soft_output Jensen-Shannon": {"losses": {"soft_output": BETWEEN}},
    "soft_output, temperature 2": {"losses": SOFT, "temperature": 2.0},
    "soft_output, temperature 2 to 1": {"losses": SOFT, "temperature": 2.0, "temperature_end": 1.0},
    "soft_output, cached teacher": {"losses": SOFT, "teacher": "cached"},
    "soft_output Jensen-Shannon, on policy": {"losses": {"soft_output": BETWEEN}, "teacher": "on_policy"},
    "soft_output + hard_output": {"losses": SOFT | {"hard_output": 0.2}},
    "hidden": {"losses": {"hidden": 1.0}},
    "soft_output + hidden": {"losses": SOFT | {"hidden": 1.0}},
    "soft_output + hidden, fading": {"losses": SOFT | {"hidden": {"weight": 2.0, "weight_end": 0.0}}},
    "soft_output + hidden (mse)": {"losses": SOFT | {"hidden": {"weight": 0.1, "measure": "mse"}}},
    "embedding": {"losses": {"embedding": 1.0}},
    "soft_output + embedding": {"losses": SOFT | {"embedding": 1.0}},
    "soft_attention": {"losses": {"soft_attention": 1.0}},
    "soft_output + soft_attention": {"losses": SOFT | {"soft_attention": 1.0}},
    "soft_output + value relations": {"losses": SOFT | {"soft_attention": {"weight": 1.0, "relation": "value"}}},
    "gradient": {"losses": {"gradient": 1.0}},
    "soft_output + gradient": {"losses": SOFT | {"gradient": 0.1}},
    "soft_output + gradient, 4 directions": {"losses": SOFT | {"gradient": {"weight": 0.1, "directions": 4}}},
}
BEST = 3


def report(event: Event) -> None:
    """Show progress to a person: one line on stderr that is written over."""
    if sys.stderr.isatty():
        print(f"\r\033[K{event.stage} {event.done:.0f} {event.unit} {event.note}", end="", file=sys.stderr, flush=True)


class Bench:
    """One run: its start, its texts, its folder."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        self.source = load(asked.model, progress=report)
        length, steps = asked.length, max(1, asked.tokens // (asked.batch * asked.length))
        text = windows(builtin.calibration(), self.source.tokenizer, length=length, seed=0)
        self.training = text[: steps * asked.batch]
        self.steps = steps
        self.judged = windows(builtin.held_out(), self.source.tokenizer, length=512, count=asked.windows)
        prune = Prune("layer", criterion="block_influence", keep=asked.keep)
        self.start: Model = prune.apply(self.source, text[: asked.calibration], progress=report)
        setting = {
            name: getattr(asked, name) for name in ("model", "tokens", "keep", "batch", "length", "rate", "windows")
        }
        origin = [self.source.lineage.origin.sha256, list(self.start.lineage.kept_layers or ())]
        self.setting = setting | {"start": origin, "text": builtin.calibration().sha256}

    def row(self, name: str, seed: int) -> dict[str, Any]:
        """Return a row's figures, measured now or by an earlier run."""
        options = ROWS.get(name)
        key = hashlib.sha256(json.dumps([self.setting, name, options, seed], sort_keys=True).encode()).hexdigest()[:24]
        path = self.asked.work / f"row-{key}.json"
        if path.is_file():
            found: dict[str, Any] = json.loads(path.read_text())
            return found
        started, model, rate = time.perf_counter(), self.start, 0.0
        if options is not None:
            common = {"steps": self.steps, "batch_size": self.asked.batch, "learning_rate": self.asked.rate}
            distill = Distill(**common, seed=seed, patience=0, **options)
            place = self.asked.work / f"training-{key}"
            result = distill.run(
                self.start, self.source, self.training, self.training[:0], checkpoints=place, progress=report
            )
            model, rate = result.model, result.tokens_per_second
        quality = compare_models(self.source, model, self.judged, name="held-out", progress=report)
        figures = {part: getattr(quality, part) for part in ("kl_mean", "kl_mean_se", "same_top", "bits_per_byte")}
        found = {"name": name, "seed": seed, **figures, "tokens_per_second": rate}
        found["seconds"] = time.perf_counter() - started
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(found))
        return found


def measured(bench: Bench) -> list[dict[str, Any]]:
    """Measure the start, every row once, and the best ones again; the list is sorted by divergence."""
    names = [name for name in ROWS if not bench.asked.only or name in bench.asked.only]
    rows = {name: [bench.row(name, 0)] for name in names}
    rows |= {"the start, unhealed": [bench.row("the start, unhealed", 0)]}
    best = sorted(names, key=lambda name: rows[name][0]["kl_mean"])[:BEST]
    for name in best:
        rows[name] += [bench.row(name, seed) for seed in range(1, bench.asked.seeds)]
    summaries = []
    for name, runs in rows.items():
        values = [run["kl_mean"] for run in runs]
        spread = statistics.stdev(values) if len(values) > 1 else None
        means = {key: statistics.mean(run[key] for run in runs) for key in runs[0] if key not in ("name", "seed")}
        summaries.append({"name": name, "seeds": len(runs), "kl_spread": spread, **means})
    return sorted(summaries, key=lambda each: each["kl_mean"])


def table(summaries: list[dict[str, Any]]) -> list[str]:
    """Lay the figures out as Markdown."""
    lines = ["| losses | KL | seeds, spread | same top | bits per byte | tokens/s |", "|---|---|---|---|---|---|"]
    for each in summaries:
        spread = "" if each["kl_spread"] is None else f"{each['seeds']}, ±{each['kl_spread']:.4f}"
        figures = f"{each['kl_mean']:.4f} | {spread} | {each['same_top']:.1%} | {each['bits_per_byte']:.4f}"
        lines.append(f"| {each['name']} | {figures} | {each['tokens_per_second']:.0f} |")
    return lines


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Compare distillation losses from one pruned start.")
    parser.add_argument("--model", default="smollm2:135m")
    parser.add_argument("--tokens", type=int, default=15_360, help="tokens to heal with")
    parser.add_argument("--keep", type=int, default=26, help="layers that stay")
    parser.add_argument("--batch", type=int, default=4, help="rows per step")
    parser.add_argument("--length", type=int, default=256, help="tokens per row")
    parser.add_argument("--rate", type=float, default=1e-4, help="learning rate")
    parser.add_argument("--calibration", type=int, default=24, help="windows that the layers are chosen by")
    parser.add_argument("--windows", type=int, default=24, help="windows to measure on")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of the best three")
    parser.add_argument("--only", choices=ROWS, action="append", help="only this row; may be repeated")
    parser.add_argument("--threads", type=int, help="threads of the arithmetic")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "smidgen-distill-table")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Measure what is asked for."""
    asked = arguments(words)
    if asked.threads:
        torch.set_num_threads(asked.threads)
    try:
        make_folder(asked.work)
        found = measured(Bench(asked))
    except SmidgenError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps(found, indent=1) if asked.json else "\n".join(table(found)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
