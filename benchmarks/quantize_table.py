"""Question: what does each part of storing bring, what is each number format good for, and can its damage be foretold?

    python benchmarks/quantize_table.py [--model SOURCE] [--only steps|formats|forecast] [--preset NAME] [--json]

``steps`` adds one part after another, at the same bytes: rounding, rounding by importance (what llama.cpp does), error
compensation, compensation by importance, a mix of formats chosen by predicted damage, that mix after a local search.
``formats`` stores every matrix in one format, but embedding and head in Q8_0 where it has less than 3 bits.
``forecast`` draws mixes of the formats at random and gives the rank correlation of predicted damage and measured
divergence. Measured is the divergence of source ‖ result in nats per token on windows of the built-in held-out text (or
``--text``), of which the second halves count; bytes are those of the matrices. Stopped at any moment, the same command
goes on: finished rows are kept in ``--work``. What was measured is recorded in EXPERIMENTS.md.
"""

import argparse
import copy
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import _table
import numpy
import torch
from _table import report

from smidgen import formats
from smidgen.data import builtin
from smidgen.data.loading import load as load_data
from smidgen.data.packing import windows
from smidgen.models.load import load
from smidgen.recipe.storing import at_both_ends
from smidgen.shrink.precision import autocast
from smidgen.shrink.quantize.allocate import Choice, allocate, choices
from smidgen.shrink.quantize.search import Trial, improve
from smidgen.shrink.quantize.sensitivity import PROBED_WINDOWS, Sensitivity, factors, probe
from smidgen.shrink.quantize.sequential import SequentialPass
from smidgen.shrink.quantize.solvers import Solver
from smidgen.shrink.quantize.solvers.gptq import Gptq
from smidgen.shrink.quantize.solvers.nearest import Nearest

FIGURES = ("kl_mean", "kl_mean_se", "kl_p99", "same_top", "bits_per_byte")
FORMATS = (
    *("integer:bits=8", "fixed_point:bits=8", "float8:kind=e4m3", "hierarchical:bits=8", "kmeans:bits=4"),
    *("table:values=nf4", "float4", "integer:bits=4", "fixed_point:bits=4", "hierarchical:bits=8,depth=4", "tiers"),
    *(
        "kmeans:bits=3",
        "integer:bits=3",
        "hierarchical:bits=8,depth=3",
        "vector",
        "binary:residual=2",
        "ternary:group=64",
    ),
    "binary",
)
"""From fine to coarse; those of GGUF are in benchmarks/quantize_vs_llamacpp.py."""


class Unweighted(Gptq):
    """Compensation as published: a block's scale is fitted as if all its columns weighed the same."""

    def solve(self, weight: torch.Tensor, hessian: torch.Tensor | None, number_format: Any) -> torch.Tensor:
        """Quantise one matrix; see `Solver.solve`."""
        kind = type(number_format)

        def fit(self: Any, values: torch.Tensor, importance: torch.Tensor) -> Any:
            return kind.fit(self, values, torch.ones_like(importance))

        plain = copy.copy(number_format)
        object.__setattr__(plain, "__class__", type(kind.__name__, (kind,), {"fit": fit}))
        return super().solve(weight, hessian, plain)


class Blind(Nearest):
    """Rounding that knows nothing of what the matrix reads."""

    def solve(self, weight: torch.Tensor, hessian: torch.Tensor | None, number_format: Any) -> torch.Tensor:
        """Quantise one matrix; see `Solver.solve`."""
        return super().solve(weight, None, number_format)


class Bench:
    """One run: its source, its texts, what was found of it, its folder."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        self.source = load(asked.model, progress=report)
        length = min(512, self.source.anatomy.context_length)
        known = load_data(asked.calibrate) if asked.calibrate else builtin.calibration()
        rows = windows(known, self.source.tokenizer, length=length, count=asked.calibration + asked.watched, seed=0)
        self.calibration, self.unseen = rows[: asked.calibration], rows[asked.calibration :][: asked.watched]
        self.text = load_data(asked.text) if asked.text else builtin.held_out()
        more = {"source": self.source.lineage.origin.sha256, "text": self.text.sha256, "known": known.sha256}
        self.rows = _table.Rows(asked, ("model", "windows", "calibration", "watched"), more)

    @cached_property
    def sensitivity(self) -> Sensitivity:
        """What a pass backward tells of the source."""
        return probe(self.source, self.calibration[:PROBED_WINDOWS], progress=report)

    @cached_property
    def costs(self) -> dict[str, list[Choice]]:
        """What every matrix would cost in every format, predicted."""
        off = factors(self.source, self.sensitivity, self.calibration[:2], progress=report)
        return choices(self.source, self.sensitivity, factors=off, progress=report)

    def bytes(self, mix: Mapping[str, str]) -> int:
        """Return the bytes of all matrices in these formats."""
        return sum(formats.find(wanted).bytes_for(self.source.shape(name)) for name, wanted in mix.items())

    def uniform(self, name: str) -> dict[str, str]:
        """Return the mix in which every matrix has this format."""
        found = dict.fromkeys(self.source.anatomy.matrices(), formats.find(name).name)
        return found | at_both_ends(self.source, name)

    def mix(self, budget: int) -> dict[str, Choice]:
        """Return the mix of least predicted damage."""
        found = allocate(self.costs, budget, together=self.source.anatomy.stored_together())
        assert found is not None
        return found

    def searched(self, budget: int) -> dict[str, Choice]:
        """Return that mix after swaps that were measured."""
        trial = Trial(self.source, self.sensitivity, self.unseen, Gptq())
        trials, mix = self.asked.search, self.mix(budget)
        return improve(self.costs, mix, budget, trial.divergence, trials=trials, progress=report).mix

    def row(self, about: dict[str, Any], solver: Solver, mixed: Callable[[], dict[str, str]]) -> dict[str, Any]:
        """Return a row's figures, measured now or by an earlier run."""
        return self.rows.once(
            self.rows.key(about, self.asked.preset, self.asked.search), lambda: self.measured(about, solver, mixed)
        )

    def measured(self, about: dict[str, Any], solver: Solver, mixed: Callable[[], dict[str, str]]) -> dict[str, Any]:
        """Store the source and measure the result."""
        known, started = self.sensitivity.embedding, time.process_time()
        mix, result = mixed(), self.source.clone()
        with torch.no_grad(), autocast():
            SequentialPass(result, mix, solver, report).run(self.calibration, known)
        row = about | {"bytes": self.bytes(mix), "seconds": time.process_time() - started}
        return row | _table.measure(self.source, result, FIGURES, self.asked.windows, self.text)


def steps(bench: Bench) -> list[dict[str, Any]]:
    """Measure one part after another."""
    uniform = bench.uniform(bench.asked.preset)
    budget = bench.bytes(uniform)

    def names(mix: Mapping[str, Choice]) -> dict[str, str]:
        return {name: choice.format for name, choice in mix.items()}

    ways: dict[str, tuple[Solver, Callable[[], dict[str, str]]]] = {
        "rounded": (Blind(), lambda: uniform),
        "rounded by importance": (Nearest(), lambda: uniform),
        "compensated": (Unweighted(), lambda: uniform),
        "compensated by importance": (Gptq(), lambda: uniform),
        "and mixed by predicted damage": (Gptq(), lambda: names(bench.mix(budget))),
        "and searched": (Gptq(), lambda: names(bench.searched(budget))),
    }
    return [bench.row({"table": "steps", "name": name}, *way) for name, way in ways.items()]


def each_format(bench: Bench) -> list[dict[str, Any]]:
    """Measure one format after another."""
    rows = []
    for name in bench.asked.format or FORMATS:
        mix = bench.uniform(name)
        about = {"table": "formats", "name": name}
        if len(set(mix.values())) > 1:
            about["ends"] = at_both_ends(bench.source, name)
        rows.append(bench.row(about, Gptq(), lambda mix=mix: mix))  # type: ignore[misc]
    return rows


def forecast(bench: Bench) -> list[dict[str, Any]]:
    """Measure mixes drawn at random, and how well their order was foretold."""
    key = bench.rows.key("forecast", bench.asked.mixes)
    return [bench.rows.once(key, lambda: {"table": "forecast"} | _forecast(bench))]


def _forecast(bench: Bench) -> dict[str, Any]:
    generator = numpy.random.default_rng(0)
    trial = Trial(bench.source, bench.sensitivity, bench.unseen, Gptq())
    together = {name for names in bench.source.anatomy.stored_together() for name in names}
    pairs = []
    for _ in range(bench.asked.mixes):
        # A mix leans towards small or large formats, so that sizes and damages differ as those of real budgets do.
        lean = generator.uniform(0, 1)
        mix = {}
        for name, front in bench.costs.items():
            if name not in together:
                mix[name] = front[int(generator.binomial(len(front) - 1, lean))]
        measured = trial.divergence({name: choice.format for name, choice in mix.items()})
        pairs.append((sum(choice.damage for choice in mix.values()), measured))
    ratios = sorted(measured / predicted for predicted, measured in pairs)
    return {"mixes": len(pairs), "pairs": pairs, "rank_correlation": rank_correlation(pairs), "ratios": ratios}


def rank_correlation(pairs: list[tuple[float, float]]) -> float:
    """Return Spearman's rank correlation; no two values may be equal.

    Example:
        >>> rank_correlation([(1.0, 10.0), (2.0, 30.0), (3.0, 20.0)])
        0.5
    """
    one, other = (numpy.argsort(numpy.argsort(values)) for values in zip(*pairs, strict=True))
    return float(numpy.corrcoef(one, other)[0, 1].round(12))


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Lay the figures out as Markdown."""
    lines = []
    for kind in ("steps", "formats"):
        own = [row for row in rows if row["table"] == kind]
        head = f"| {kind} | bytes of the matrices | mean KL | 99% | same top | bits per byte | processor seconds |"
        lines += [head, "|---|---|---|---|---|---|---|"] if own else []
        for row in own:
            figures = f"{row['kl_mean']:.4f} | {row['kl_p99']:.2f} | {row['same_top']:.1%} | {row['bits_per_byte']:.4f}"
            lines.append(f"| {row['name']} | {row['bytes']:,} | {figures} | {row['seconds']:.0f} |")
    for row in rows:
        if row["table"] == "forecast":
            ratios = row["ratios"]
            lines.append(
                f"{row['mixes']} mixes: rank correlation {row['rank_correlation']:.3f}; measured over predicted damage "
                f"{ratios[len(ratios) // 2]:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            )
    return lines


KINDS = {"steps": steps, "formats": each_format, "forecast": forecast}


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = _table.parser("Take storing apart.", "smidgen-quantize-table")
    parser.add_argument("--only", choices=KINDS, action="append", help="only this table; may be repeated")
    parser.add_argument("--preset", default="iq4_nl", help="format whose bytes every step of 'steps' has")
    parser.add_argument("--format", action="append", help="only this format; may be repeated")
    parser.add_argument("--search", type=int, default=40, help="swaps that the search may measure")
    parser.add_argument("--mixes", type=int, default=30, help="mixes that 'forecast' draws")
    parser.add_argument("--watched", type=int, default=4, help="windows on which mixes are measured")
    parser.add_argument("--calibrate", metavar="FILE", help="text to go by; the built-in one where not given")
    parser.add_argument("--text", help="text to measure on; the built-in held-out text where not given")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Measure what is asked for."""
    asked = arguments(words)

    def measured() -> list[dict[str, Any]]:
        bench = Bench(asked)
        return [row for name in asked.only or KINDS for row in KINDS[name](bench)]

    return _table.run(asked, measured, table)


if __name__ == "__main__":
    raise SystemExit(main())
