"""The kinds of value that fields have, one file each, found by its name.

A kind is a frozen dataclass with ``spans(text, habits)``, which finds its values in a text. Kinds whose values are
told by more than their own text (a company's name, an address) have ``candidates(layout, habits)`` as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from smidgen import registry
from smidgen.documents.candidates import Candidate, Span, in_every_segment

if TYPE_CHECKING:
    from smidgen.documents.habits import Habits
    from smidgen.documents.layout import Layout

KINDS = "smidgen.documents.kinds"
"""The folder of the kinds, for `smidgen.registry`."""


class Kind(Protocol):
    """A kind of value."""

    def spans(self, text: str, habits: Habits) -> Iterable[Span]:
        """Find its values in a text."""
        ...


def build(name: str, **options: Any) -> Kind:
    """Return a kind by its name.

    Example:
        >>> build("email")
        Email()
    """
    kind: Kind = registry.build(KINDS, name, options)
    return kind


def everywhere(kind: Kind, layout: Layout, habits: Habits) -> Iterator[Candidate]:
    """Find a kind's values on a whole page."""
    own = getattr(kind, "candidates", None)
    if own is not None:
        yield from own(layout, habits)
    else:
        yield from in_every_segment(layout, lambda text: kind.spans(text, habits))
