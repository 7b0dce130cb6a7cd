"""Who answers for the teacher: one file per way of asking it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from smidgen import registry
from smidgen.progress import Progress, silent
from smidgen.shrink.distill.losses import TopTokens
from smidgen.shrink.distill.matching import Vocabulary

if TYPE_CHECKING:
    import torch

    from smidgen.models.model import Model


@dataclass(frozen=True)
class Lesson:
    """What a teacher is asked about.

    Attributes:
        teacher: The model, on the device where it answers; it is not changed.
        ids: The student's tokens, int64 ``[rows, length]``.
        vocabulary: How they lie in the teacher's vocabulary.
        blocks: Paths of the teacher's blocks whose states are wanted.
        folder: Where answers may be kept.
        dtype: Type of the matrix products.
        progress: Receives reports.
    """

    teacher: Model
    ids: torch.Tensor
    vocabulary: Vocabulary
    blocks: tuple[str, ...]
    folder: Path
    dtype: torch.dtype
    progress: Progress = field(default=silent)


class Answers(Protocol):
    """What a teacher says of some rows; tokens are counted row by row, the last of every row left out.

    Attributes:
        states: Hidden states after the blocks that were asked for, each ``[tokens, width]``.
    """

    states: list[torch.Tensor]

    def chunk(self, which: torch.Tensor) -> torch.Tensor | TopTokens:
        """Return logits ``[len(which), shared]`` or top tokens of the tokens with these numbers."""
        ...


class Answering(Protocol):
    """A teacher that was opened for a lesson."""

    def answers(self, rows: torch.Tensor) -> Answers:
        """Answer for the rows with these numbers, int64 ``[batch]``."""
        ...


class Teacher:
    """A way of asking.

    Attributes:
        gives_states: Whether hidden states can be had.
    """

    gives_states: ClassVar[bool] = False

    def open(self, lesson: Lesson) -> AbstractContextManager[Answering]:
        """Make the teacher ready to answer."""
        raise TypeError(f"{type(self).__name__} does not answer")


def find(name: str) -> Teacher:
    """Return a teacher by its name.

    Raises:
        ReferenceNotFound: There is no such teacher.
    """
    teacher: Teacher = registry.find(__name__, name)()
    return teacher


@contextmanager
def watching(module: Any, paths: tuple[str, ...]) -> Iterator[list[torch.Tensor]]:
    """Collect the outputs ``[batch, length, width]`` of these parts while the block runs, in order of computation."""
    seen: list[torch.Tensor] = []
    handles = [
        module.get_submodule(path).register_forward_hook(lambda _, __, output: seen.append(output)) for path in paths
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def without_last(values: torch.Tensor) -> torch.Tensor:
    """Turn ``[rows, length, …]`` into ``[rows · (length − 1), …]``: the last token of a row predicts nothing known."""
    return values[:, :-1].reshape(-1, *values.shape[2:])
