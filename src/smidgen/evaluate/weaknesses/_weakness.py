"""What every weakness is: observed on a model, judged beside its source."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

if TYPE_CHECKING:
    from smidgen.evaluate.examined import Examined, Subjects
    from smidgen.evaluate.findings import Finding

Seen = TypeVar("Seen")

ENOUGH = 0.85
"""Share of things remembered below which a model counts as forgetful: what RULER (Hsieh et al. 2024, arXiv 2404.06654)
takes as still effective, 85.6%, rounded."""

NOTICEABLE = 0.02
"""Bits per byte from which on a loss counts as one."""


class Weakness(abc.ABC, Generic[Seen]):
    """A weakness.

    Attributes:
        unit: What its figure counts.
        writes: Whether the model must write.
        needs_likelihoods: Whether it must say how likely texts are, which a model behind a server does not.
    """

    unit: ClassVar[str]
    writes: ClassVar[bool] = False
    needs_likelihoods: ClassVar[bool] = True

    @abc.abstractmethod
    def observe(self, model: Examined, subjects: Subjects) -> Seen:
        """Look at a model.

        Raises:
            Unsupported: It cannot be looked for in this model; the message says why.
        """

    @abc.abstractmethod
    def judge(self, seen: Seen, source: Seen | None) -> Finding:
        """Say what was seen.

        Args:
            seen: What was seen of the model.
            source: What was seen of the model it was made from; None where there is none.
        """


def percent(share: float) -> str:
    """Write a share as people read it.

    Example:
        >>> percent(0.9), percent(0.0)
        ('90%', '0%')
    """
    return f"{share:.0%}"
