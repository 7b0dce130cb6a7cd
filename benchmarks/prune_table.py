"""Question: which criterion removes each kind of part with the least damage, before and after the same healing?

    python benchmarks/prune_table.py [--tokens 15360] [--only STRUCTURE] [--criterion NAME] [--work FOLDER] [--json]

Layers, neurons and width are cut to about 100M parameters, heads and vocabulary to about 120M, single weights to half
zeros, by every criterion that fits; by the structure's own criterion also without repair, in three rounds and unevenly.
Every cut is measured as it is and after healing with the same tokens of the built-in calibration text (forward KL, for
a cut vocabulary cross-entropy; all weights, last weights count). What is measured is the mean divergence of source ‖
result in nats per token, the share of tokens with the same top choice, and bits per byte, on windows of the built-in
held-out text (the second half of each counts). Of a cut vocabulary the divergence is that over the kept tokens, so its
bits per byte tell more. Stopped at any moment, the same command goes on: finished rows and trainings under way are kept
in ``--work``. The table in docs/ and what was decided from it stand in EXPERIMENTS.md.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import _table
from _table import report

from smidgen.data import builtin
from smidgen.data.packing import token_use, windows
from smidgen.models.load import load
from smidgen.models.model import Model
from smidgen.shrink.distill.distill import Distill
from smidgen.shrink.prune import criteria, structures
from smidgen.shrink.prune.prune import Prune

CUTS: dict[str, dict[str, Any]] = {
    "layer": {"keep": 20},
    "neuron": {"keep": 864, "multiple": 32},
    "width": {"keep": 416, "multiple": 32},
    "head": {"keep": 3},
    "vocabulary": {"keep": 24064},
    "weight": {"sparsity": 0.5},
    "synapse": {"pattern": "2:4"},
}
"""What is asked of each kind of part of smollm2:135m."""

SHARES = {"layer": 0.67, "neuron": 0.5, "width": 0.5, "head": 0.5, "vocabulary": 0.75}
"""What is asked of other models: the share of the parts that stays."""

VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {
    "layer": ({"rounds": 3},),
    "neuron": ({"repair": False}, {"rounds": 3}, {"uneven": True}),
    "width": ({"repair": False}, {"rounds": 3}),
    "head": ({"repair": False}, {"whole_groups": True}, {"uneven": True}),
    "vocabulary": (),
    "weight": ({"repair": False}, {"per": "layer"}, {"uneven": True}),
    "synapse": ({"repair": False}, {"pattern": "4:8"}),
}
FIGURES = ("kl_mean", "kl_mean_se", "same_top", "bits_per_byte", "bits_per_byte_source", "dropped_mass")


def cuts(asked: argparse.Namespace, source: Model) -> Iterator[Prune]:
    """Yield every cut of the table."""
    own = asked.model == "smollm2:135m"
    for name, options in CUTS.items():
        if asked.only and name not in asked.only:
            continue
        structure = structures.find(name)
        amount = dict(options)
        if not own and name in SHARES:
            amount = {"keep": max(structure.least(source), round(SHARES[name] * structure.size(source.anatomy)))}
        for criterion in criteria.names_for(name):
            if not asked.criterion or criterion in asked.criterion:
                yield Prune(name, criterion, **amount)
        if not asked.criterion or structure.criterion in asked.criterion:
            for variant in VARIANTS[name]:
                yield Prune(name, structure.criterion, **amount | variant)


class Bench:
    """One run: its source, its texts, its folder."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        self.source = load(asked.model, progress=report)
        length = min(512, self.source.anatomy.context_length)
        self.calibration = windows(
            builtin.calibration(), self.source.tokenizer, length=length, count=asked.calibration, seed=0
        )
        names = ("model", "tokens", "batch", "length", "rate", "windows", "calibration")
        more = {"source": self.source.lineage.origin.sha256, "text": builtin.calibration().sha256}
        self.rows = _table.Rows(asked, names, more)

    def row(self, cut: Prune) -> dict[str, Any]:
        """Return a row's figures, measured now or by an earlier run."""
        key = self.rows.key(asdict(cut))
        return self.rows.once(key, lambda: self.measured(cut, key))

    def measured(self, cut: Prune, key: str) -> dict[str, Any]:
        """Cut, heal and measure."""
        started = time.perf_counter()
        use = token_use(builtin.calibration(), self.source.tokenizer) if cut.structure == "vocabulary" else None
        pruned = cut.apply(self.source, self.calibration, token_use=use, progress=report)
        row: dict[str, Any] = {
            "structure": cut.structure,
            "criterion": cut.criterion,
            "variant": variant(cut),
            "parameters": pruned.parameter_count(),
            "zeros": sum(int((each == 0).sum()) for each in pruned.module.parameters()),
            "cut_seconds": time.perf_counter() - started,
            "before": self.figures(pruned),
        }
        healed = self.heal(pruned, key)
        return row | {"after": self.figures(healed), "seconds": time.perf_counter() - started}

    def heal(self, pruned: Model, key: str) -> Model:
        """Teach a cut model with the same tokens as every other."""
        asked, steps = self.asked, _table.steps_of(self.asked)
        rows = windows(builtin.calibration(), pruned.tokenizer, length=asked.length, seed=0)[: steps * asked.batch]
        # Over kept tokens a cut vocabulary leaves every distribution as it was: only the text itself teaches it.
        losses = {"soft_output" if pruned.lineage.kept_tokens is None else "hard_output": 1.0}
        distill = Distill(steps=steps, batch_size=asked.batch, learning_rate=asked.rate, patience=0, losses=losses)
        return self.rows.train(key, distill, pruned, self.source, rows).model

    def figures(self, model: Model) -> dict[str, float]:
        """Measure a model against the source on held-out text."""
        return _table.measure(self.source, model, FIGURES, self.asked.windows)


def variant(cut: Prune) -> str:
    """Say in what a cut differs from the usual one.

    Example:
        >>> variant(Prune("neuron", keep=32, rounds=3, repair=False))
        'without repair, 3 rounds'
    """
    said = {
        "without repair": not cut.repair,
        f"{cut.rounds} rounds": cut.rounds > 1,
        "uneven": cut.uneven,
        "whole groups": cut.whole_groups,
        "per layer": cut.per == "layer",
        cut.pattern: cut.structure == "synapse",
    }
    return ", ".join(name for name, holds in said.items() if holds)


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Lay the figures out as Markdown, the least damage after healing first in each structure."""
    head = "| structure | criterion | parameters | KL before | after | same top after | bits per byte before | after |"
    lines = [head, "|---|---|---|---|---|---|---|---|"]
    order = {name: number for number, name in enumerate(CUTS)}
    for row in sorted(rows, key=lambda row: (order[row["structure"]], row["after"]["bits_per_byte"])):
        before, after = row["before"], row["after"]
        name = row["criterion"] + (f" ({row['variant']})" if row["variant"] else "")
        size = f"{(row['parameters'] - row['zeros']) / 1e6:.1f}M"
        size += " not zero" if row["structure"] in ("weight", "synapse") else ""
        figures = f"{before['kl_mean']:.3f} | {after['kl_mean']:.3f} | {after['same_top']:.1%}"
        bits = f"{before['bits_per_byte']:.4f} | {after['bits_per_byte']:.4f}"
        lines.append(f"| {row['structure']} | {name} | {size} | {figures} | {bits} |")
    return lines


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = _table.parser("Compare what to prune, and by which criterion.", "smidgen-prune-table")
    parser.add_argument("--only", choices=CUTS, action="append", help="only this structure; may be repeated")
    parser.add_argument("--criterion", choices=criteria.names(), action="append", help="only this one; may be repeated")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Measure what is asked for."""
    asked = arguments(words)

    def measured() -> list[dict[str, Any]]:
        bench = Bench(asked)
        return [bench.row(cut) for cut in cuts(asked, bench.source)]

    return _table.run(asked, measured, table)


if __name__ == "__main__":
    raise SystemExit(main())
