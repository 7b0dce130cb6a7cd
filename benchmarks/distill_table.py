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
import statistics
import time
from typing import Any

import _table
from _table import report

from smidgen.data import builtin
from smidgen.data.packing import windows
from smidgen.models.load import load
from smidgen.models.model import Model
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
FIGURES = ("kl_mean", "kl_mean_se", "same_top", "bits_per_byte")


class Bench:
    """One run: its start, its texts, its folder."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        self.source = load(asked.model, progress=report)
        self.steps = _table.steps_of(asked)
        text = windows(builtin.calibration(), self.source.tokenizer, length=asked.length, seed=0)
        self.training = text[: self.steps * asked.batch]
        prune = Prune("layer", criterion="block_influence", keep=asked.keep)
        self.start: Model = prune.apply(self.source, text[: asked.calibration], progress=report)
        origin = [self.source.lineage.origin.sha256, list(self.start.lineage.kept_layers or ())]
        names = ("model", "tokens", "keep", "batch", "length", "rate", "windows")
        self.rows = _table.Rows(asked, names, {"start": origin, "text": builtin.calibration().sha256})

    def row(self, name: str, seed: int) -> dict[str, Any]:
        """Return a row's figures, measured now or by an earlier run."""
        key = self.rows.key(name, ROWS.get(name), seed)
        return self.rows.once(key, lambda: self.measured(name, seed, key))

    def measured(self, name: str, seed: int, key: str) -> dict[str, Any]:
        """Train and measure; a name without options is the start as it is."""
        started, model, rate = time.perf_counter(), self.start, 0.0
        if name in ROWS:
            common = {"steps": self.steps, "batch_size": self.asked.batch, "learning_rate": self.asked.rate}
            distill = Distill(**common, seed=seed, patience=0, **ROWS[name])
            result = self.rows.train(key, distill, self.start, self.source, self.training)
            model, rate = result.model, result.tokens_per_second
        figures = _table.measure(self.source, model, FIGURES, self.asked.windows)
        done = {"tokens_per_second": rate, "seconds": time.perf_counter() - started}
        return {"name": name, "seed": seed, **figures, **done}


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
    parser = _table.parser("Compare distillation losses from one pruned start.", "smidgen-distill-table")
    parser.add_argument("--keep", type=int, default=26, help="layers that stay")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of the best three")
    parser.add_argument("--only", choices=ROWS, action="append", help="only this row; may be repeated")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Measure what is asked for."""
    asked = arguments(words)
    return _table.run(asked, lambda: measured(Bench(asked)), table)


if __name__ == "__main__":
    raise SystemExit(main())
