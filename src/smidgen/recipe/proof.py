"""Measures the finished file: quality against the source, speed, memory, sample answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import smidgen
from smidgen.progress import Event, Progress
from smidgen.recipe import receipt
from smidgen.recipe.budget import Budget
from smidgen.recipe.materials import Materials

if TYPE_CHECKING:
    from smidgen.evaluate.windows import Text
    from smidgen.models.model import Model

MOST_WINDOWS, FEWEST_WINDOWS = 24, 4
TIME_SHARE = 0.25
"""Share of the time allowed that measuring may take."""
FIXED_SECONDS = 38.0
"""About what speed, memory, sample answers and the report take besides scoring."""


@dataclass
class Proof:
    """What the finished file is measured with.

    Attributes:
        materials: The source and the texts.
        source: The source's GGUF.
        progress: Receives reports.
    """

    materials: Materials
    source: Path
    progress: Progress

    @cached_property
    def _pace(self) -> float:
        """Tokens per second at which the source reads a prompt, timed once."""
        from smidgen.inference.scoring import PromptScorer

        with PromptScorer(self.source, threads=self.materials.threads) as scorer:
            scorer.time_prefill(64)
            return 512 / scorer.time_prefill(512)

    def speed(self, path: Path) -> dict[str, Any]:
        """Measure a file's speed and memory."""
        from smidgen.evaluate.speed import measure_speed

        return measure_speed(path, threads=self.materials.threads, quick=True, progress=self.progress).to_dict()

    def texts(self) -> list[Text]:
        """Return the texts that are measured: the user's held-out part and general prose."""
        from smidgen.evaluate.windows import Text

        texts = self.materials.texts
        named = (
            {"held-out": texts.held_out} if texts.stand_in else {"held-out": texts.held_out, "general": texts.general}
        )
        return [Text.of(corpus, name) for name, corpus in named.items()]

    def _seconds_per_window(self) -> float:
        # Source and result are both read; scoring every position costs about a third more than reading a prompt.
        return 2 * 1.35 * 512 / self._pace * len(self.texts())

    def windows(self, within: float | None) -> int:
        """Return how many windows of each text to measure in the time allowed."""
        if within is None:
            return MOST_WINDOWS
        count = int((within * TIME_SHARE - FIXED_SECONDS) / self._seconds_per_window())
        return max(FEWEST_WINDOWS, min(MOST_WINDOWS, count))

    def seconds(self, windows: int) -> float:
        """Return about how long measuring takes."""
        return FIXED_SECONDS + windows * self._seconds_per_window()

    def samples(self, path: Path) -> list[dict[str, str]]:
        """Ask the source and a file the same."""
        from smidgen.evaluate.samples import PROMPTS, answers

        self.progress(Event("asking both models"))
        before = answers(self.source, PROMPTS, threads=self.materials.threads)
        after = answers(path, PROMPTS, threads=self.materials.threads)
        return [
            {"prompt": prompt, "source": one, "result": two}
            for prompt, one, two in zip(PROMPTS, before, after, strict=True)
        ]


def prove(
    proof: Proof, path: Path, model: Model, predicted: Mapping[str, Any], windows: int, budget: Budget
) -> dict[str, Any]:
    """Measure a finished file and return its receipt, without plan and steps.

    Args:
        proof: What to measure with.
        path: The finished GGUF.
        model: The model it was written from.
        predicted: What the planner predicted.
        windows: Windows of each text.
        budget: What was allowed.
    """
    materials = proof.materials
    described = receipt.describe_file(path, model, predicted.get("damage", {}))
    quality = [_quality(proof, path, text, windows) for text in proof.texts()]
    proof.progress(Event("measuring speed"))
    speed, source_speed = proof.speed(path), proof.speed(proof.source)
    met = receipt.judge(budget, receipt.size_of(path), speed["tg128"]["mean"], quality[0]["same_top"])
    warnings = list(materials.texts.warnings)
    if not math.isfinite(quality[0]["ppl_result"]):
        warnings.append("The result's perplexity is not finite: it is not usable.")
    return {
        "format": receipt.FORMAT,
        "smidgen": smidgen.__version__,
        "source": receipt.describe_source(materials.source),
        "budget": budget.to_dict(),
        **{"result": described["result"], "tensors": described["tensors"]},
        "parts": {
            "before": receipt.parts_of_source(proof.source, materials.source),
            "after": described["parts"],
        },
        "quality": quality,
        "predicted": {name: value for name, value in predicted.items() if name != "damage"},
        "speed": speed | {"source": source_speed},
        "memory": {
            "peak_rss_bytes": speed["peak_rss_bytes"],
            "source_peak_rss_bytes": source_speed["peak_rss_bytes"],
        },
        "machine": receipt.describe_machine(materials.threads),
        "met": met,
        "data": None if materials.texts.datasheet is None else materials.texts.datasheet.to_dict(),
        "samples": proof.samples(path),
        "warnings": warnings,
    }


def kept_tokens_of(source: Path, result: Path) -> list[int] | None:
    """Return for every token of a pruned vocabulary its id in the source, read from the two files; None if alike."""
    from smidgen.evaluate.measure import kept_tokens
    from smidgen.models.checkpoint import gguf

    before, after = (gguf.read(path).metadata["tokenizer.ggml.tokens"] for path in (source, result))
    return kept_tokens(before, after)


def _quality(proof: Proof, path: Path, text: Text, windows: int) -> dict[str, Any]:
    from smidgen.evaluate.quality import compare_files

    return compare_files(
        proof.source,
        path,
        text,
        windows=windows,
        length=proof.materials.length,
        kept_tokens=kept_tokens_of(proof.source, path),
        threads=proof.materials.threads,
        progress=proof.progress,
    ).to_dict()
