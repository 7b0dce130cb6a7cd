"""Tasks with labels that a model is measured on: one file each, found by its name.

The prompts of published tasks are those that lm-evaluation-harness 0.4.13 writes, so that a score can be checked with
it. Nothing is fetched: the rows come from the user's file.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from smidgen import registry
from smidgen.errors import InvalidInput

if TYPE_CHECKING:
    from smidgen.evaluate.benchmarks._benchmark import Benchmark


def names() -> tuple[str, ...]:
    """List the benchmarks."""
    return registry.names(__name__)


def find(name: str) -> Benchmark:
    """Return a benchmark by its name; its options stand behind a colon: ``numeric:tolerance=0.01``.

    Raises:
        ReferenceNotFound: There is none of that name, or it has no such option.
        InvalidInput: An option's value is of another kind.

    Example:
        >>> find("arc"), find("exact:ignore_case=true")
        (Arc(), Exact(chat=False, ignore_case=True))
    """
    head, _, given = name.partition(":")
    options = {}
    for part in filter(None, given.split(",")):
        option, _, value = (piece.strip() for piece in part.partition("="))
        try:
            options[option] = json.loads(value.lower())
        except json.JSONDecodeError:
            raise InvalidInput(f"The option {option} of the task {head} cannot be {value!r}.") from None
    made = cast("Benchmark", registry.build(__name__, head, options))
    for option, value in options.items():
        usual = getattr(type(made), option)
        if isinstance(value, bool) != isinstance(usual, bool) or not isinstance(value, int | float):
            raise InvalidInput(f"The option {option} of the task {head} cannot be {value!r}, usual is {usual!r}.")
    return made
