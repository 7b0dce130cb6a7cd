"""Tasks with labels that a model is measured on: one file each, found by its name.

The prompts of published tasks are those that lm-evaluation-harness 0.4.13 writes, so that a score can be checked with
it. Nothing is fetched: the rows come from the user's file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from smidgen import registry

if TYPE_CHECKING:
    from smidgen.evaluate.benchmarks._benchmark import Benchmark


def names() -> tuple[str, ...]:
    """List the benchmarks."""
    return registry.names(__name__)


def find(name: str) -> Benchmark:
    """Return a benchmark by its name.

    Raises:
        ReferenceNotFound: There is none of that name.

    Example:
        >>> find("arc")
        Arc()
    """
    return cast("Benchmark", registry.build(__name__, name, {}))
