"""How much memory a GGUF takes when it runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from smidgen.inference.scoring import PromptScorer, Subject


@dataclass(frozen=True)
class Memory:
    """What was measured.

    Attributes:
        peak_rss_bytes: Largest memory that the process held, the model's file included.
        context: Tokens that its context held.
    """

    peak_rss_bytes: int
    context: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values for JSON."""
        return asdict(self)


def measure_memory(path: str | Path | Subject, *, threads: int | None = None, context: int = 512) -> Memory:
    """Measure the memory of a process that loads a model and reads one prompt that fills its context.

    `smidgen.evaluate.speed.measure_speed` measures it too; this is for when speed is not wanted.

    Args:
        path: The GGUF file or folder, or how it is to be run.
        threads: Threads to compute with; the physical cores that this process may use where None.
        context: Tokens that the context holds.

    Raises:
        EngineFailed: The engine refuses the file.
    """
    with PromptScorer(path, threads=threads, context=context) as scorer:
        scorer.time_prefill(context)
        return Memory(scorer.peak_rss_bytes(), context)
