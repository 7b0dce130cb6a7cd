"""The known weaknesses of small models, each measured: one file each, found by its name.

A weakness is looked for in two steps. It is observed on each model alone, which takes time; what was seen is then
judged, beside what was seen of the source where there is one, which takes none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smidgen import registry
from smidgen.evaluate.weaknesses._weakness import Weakness

FOLDER = "smidgen.evaluate.weaknesses"
"""The family's folder, for `smidgen.registry`."""


def names() -> tuple[str, ...]:
    """List the weaknesses.

    Example:
        >>> names()[:4]
        ('capacity', 'coherence', 'long_range', 'off_domain')
    """
    return registry.names(FOLDER)


def chosen(only: Sequence[str] = ()) -> list[tuple[str, Weakness[Any]]]:
    """Return weaknesses with their names, those that need likelihoods first, so that each model is loaded but twice.

    Args:
        only: Names; all where empty.

    Raises:
        ReferenceNotFound: There is no such weakness.
    """
    wanted = {registry.find(FOLDER, name) for name in only}
    found = [(name, registry.find(FOLDER, name)) for name in names()]
    taken = [(name, kind()) for name, kind in found if not wanted or kind in wanted]
    return sorted(taken, key=lambda pair: pair[1].writes)
