"""Answers that torch writes, held to a schema or a grammar: llguidance says which tokens may come next."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy
from numpy.typing import NDArray

from smidgen.errors import InvalidInput
from smidgen.inference.engine import Demands

if TYPE_CHECKING:
    from llguidance import LLTokenizer
    from transformers import PreTrainedTokenizerFast


class Guide:
    """Follows one answer through a schema or a grammar.

    Args:
        tokenizer: As `tokenizer_of` gives it.
        demands: What holds the answer; has a schema or a grammar.

    Raises:
        InvalidInput: The grammar cannot be understood.
    """

    def __init__(self, tokenizer: LLTokenizer, demands: Demands) -> None:
        from llguidance import LLMatcher

        self._matcher = LLMatcher(tokenizer, _compiled(demands), log_level=0)
        self._require_sound()

    @property
    def is_over(self) -> bool:
        """Whether nothing may follow any more."""
        return self._matcher.is_stopped()

    def allowed(self) -> NDArray[numpy.bool_]:
        """Return whether each token of the vocabulary may come next, shape (vocabulary,)."""
        marks = numpy.frombuffer(self._matcher.compute_logit_bias(), numpy.uint8)
        self._require_sound()
        found: NDArray[numpy.bool_] = marks != 0
        return found

    def take(self, token: int) -> None:
        """Go on behind a token."""
        self._matcher.consume_token(token)
        self._require_sound()

    def _require_sound(self) -> None:
        if self._matcher.is_error():
            raise InvalidInput(f"invalid grammar: {self._matcher.get_error().strip()[:500]}")


def tokenizer_of(tokenizer: PreTrainedTokenizerFast, rows: int, ends: Iterable[int]) -> LLTokenizer:
    """Read a tokenizer for guiding; takes up to a second, so keep it.

    Args:
        tokenizer: The model's.
        rows: Rows of the model's embedding.
        ends: Tokens that end an answer.
    """
    from llguidance.hf import from_tokenizer

    return from_tokenizer(tokenizer, n_vocab=rows, eos_token=sorted(ends))


def _compiled(demands: Demands) -> str:
    from llguidance import LLMatcher
    from llguidance.gbnf_to_lark import gbnf_to_lark

    if demands.schema is not None:
        return LLMatcher.grammar_from_json_schema(json.dumps(dict(demands.schema)))
    try:
        return LLMatcher.grammar_from_lark(gbnf_to_lark(demands.grammar or ""))
    except Exception as error:  # the converter has no error of its own
        raise InvalidInput(f"invalid grammar: {str(error)[:500]}") from None
