"""Kinds of noise that are put on texts to see what a model makes of them: one file each, found by its name.

The same text and seed give the same noisy text on every machine, whatever else is made noisy before or after.
"""

from __future__ import annotations

from smidgen import registry
from smidgen.evaluate.noises._noise import Noise

FOLDER = "smidgen.evaluate.noises"
"""The family's folder, for `smidgen.registry`."""


def names() -> tuple[str, ...]:
    """List the kinds of noise.

    Example:
        >>> names()
        ('capitals', 'ocr', 'typos')
    """
    return registry.names(FOLDER)


def find(name: str) -> Noise:
    """Return a kind of noise with its own strength.

    Raises:
        ReferenceNotFound: There is no such noise.
    """
    found: Noise = registry.find(FOLDER, name)()
    return found
