"""Who answers for the teacher: one file per way of asking it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

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
        folder: Where answers may be kept.
        dtype: Type of the matrix products.
        student: Who learns; None where nothing depends on it.
        watched: Dotted paths of the teacher's parts whose outputs are wanted.
        maps: Whether attention layers must write their maps down.
        slopes: Whether gradients by the input embeddings are wanted.
        progress: Receives reports.
    """

    teacher: Model
    ids: torch.Tensor
    vocabulary: Vocabulary
    folder: Path
    dtype: torch.dtype
    student: Model | None = None
    watched: tuple[str, ...] = ()
    maps: bool = False
    slopes: bool = False
    progress: Progress = field(default=silent)


class Answers:
    """What a teacher says of some rows; tokens are counted row by row, the last of every row left out.

    Attributes:
        seen: What the watched parts returned, by path.
    """

    seen: Mapping[str, Any] = {}

    def chunk(self, which: torch.Tensor) -> torch.Tensor | TopTokens:
        """Return logits ``[len(which), shared]`` or top tokens of the tokens with these numbers."""
        raise TypeError(f"{type(self).__name__} has no outputs")

    def slopes(self, which: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the token embedding gave and the gradient by it of the mean loss of these tokens.

        Both are ``[rows, length, width]``; the loss is the cross-entropy on the rows' own next tokens.
        """
        raise TypeError(f"{type(self).__name__} has no slopes")


class Answering:
    """A teacher that was opened for a lesson."""

    def answers(self, ids: torch.Tensor, rows: torch.Tensor) -> Answers:
        """Answer for tokens ``[batch, length]``; ``rows`` are their numbers in the lesson, int64 ``[batch]``."""
        raise TypeError(f"{type(self).__name__} does not answer")

    def text(self, ids: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return the tokens that a training step works on, and which of them count, in place of the data's own.

        Args:
            ids: The data's rows of this step, int64 ``[batch, length]``.
            mask: Which of their tokens are learned to be predicted; None: all.
        """
        return ids, mask


class Teacher:
    """A way of asking.

    Attributes:
        answers: What it can give, of ``outputs``, ``parts`` and ``gradient``.
        follows_text: Whether the student reads the data's own words.
    """

    answers: ClassVar[frozenset[str]] = frozenset({"outputs"})
    follows_text: ClassVar[bool] = True

    def open(self, lesson: Lesson) -> AbstractContextManager[Answering]:
        """Make the teacher ready to answer."""
        raise TypeError(f"{type(self).__name__} does not answer")


def names() -> tuple[str, ...]:
    """List every way of asking.

    Example:
        >>> {"cached", "live", "on_policy"} <= set(names())
        True
    """
    return registry.names(__name__)


def build(name: str, options: Mapping[str, Any]) -> Teacher:
    """Make a teacher from its options.

    Raises:
        ReferenceNotFound: There is no such teacher or option.
    """
    teacher: Teacher = registry.build(__name__, name, options)
    return teacher


@contextmanager
def watching(module: Any, paths: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Collect what these parts return while the block runs, by path."""
    seen: dict[str, Any] = {}

    def watch(path: str) -> Any:
        return module.get_submodule(path).register_forward_hook(lambda _, __, output: seen.update({path: output}))

    handles = [watch(path) for path in paths]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def plain_attention(module: Any, wanted: bool = True) -> Iterator[None]:
    """Let attention layers compute step by step, so that their maps can be seen and derived twice."""
    before = module.config._attn_implementation
    if wanted:
        module.set_attn_implementation("eager")
    try:
        yield
    finally:
        if wanted:
            module.set_attn_implementation(before)


def without_last(values: torch.Tensor) -> torch.Tensor:
    """Turn ``[rows, length, …]`` into ``[rows · (length − 1), …]``: the last token of a row predicts nothing known."""
    return values[:, :-1].reshape(-1, *values.shape[2:])
