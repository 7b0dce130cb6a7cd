"""What a text teaches: one file per objective.

An `Objective` turns rows of data into documents of tokens and says which of them are to be learned. The loss is the
same for all: the cross-entropy of the next token, wherever that is a target.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from smidgen import registry
from smidgen.errors import InvalidInput

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from smidgen.data.chat import Rendered
    from smidgen.data.packing import PackedRows
    from smidgen.data.rows import Corpus


class Objective(ABC):
    """Root of all objectives."""

    @abstractmethod
    def documents(
        self, corpus: Corpus, tokenizer: PreTrainedTokenizerFast, *, length: int, seed: int
    ) -> Iterator[Rendered]:
        """Yield documents of at most ``length`` tokens with their targets marked; those without any are left out.

        Args:
            corpus: The data.
            tokenizer: The model's tokenizer.
            length: Most tokens of one document.
            seed: Of everything that is drawn; the same seed gives the same documents.

        Raises:
            InvalidInput: The rows are not of the shape that this objective learns from.
        """


def names() -> tuple[str, ...]:
    """List every objective.

    Example:
        >>> {"supervised", "unsupervised", "self_supervised"} <= set(names())
        True
    """
    return registry.names(__name__)


def build(name: str, options: dict[str, Any]) -> Objective:
    """Make an objective from its options.

    Raises:
        ReferenceNotFound: There is no such objective or option.
        InvalidInput: An option's value is not possible.
    """
    objective: Objective = registry.build(__name__, name, options)
    return objective


def pack(
    objective: Objective,
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerFast,
    *,
    length: int,
    seed: int,
    share: bool = False,
) -> PackedRows:
    """Pack the documents of an objective into rows of one length, without cross-talk.

    Args:
        objective: What is to be learned.
        corpus: The data.
        tokenizer: The model's tokenizer.
        length: Tokens per row.
        seed: Of everything that is drawn.
        share: Write what documents begin with in common once in each row.

    Raises:
        InvalidInput: Nothing is left to learn from.
    """
    from smidgen.data.packing import pack_documents

    if length < 16:
        raise InvalidInput(f"Rows of {length} tokens hold nothing to learn from.", remedy="Give at least 16.")
    documents = list(objective.documents(corpus, tokenizer, length=length, seed=seed))
    if not documents:
        raise InvalidInput(f"{corpus.name} has nothing to learn from.", remedy="Give more text.")
    return pack_documents(documents, tokenizer, length=length, share=share)


def with_end(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> list[int]:
    """Return the tokens closed by the end-of-text token, where they are not yet and the tokenizer has one."""
    end = tokenizer.eos_token_id
    return ids if end is None or end in ids[-2:] else [*ids, end]
