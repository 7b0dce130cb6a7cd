"""Learn to continue plain text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smidgen.data.chat import Rendered, render
from smidgen.shrink.finetune.objectives import Objective, with_end

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from smidgen.data.rows import Corpus


@dataclass(frozen=True)
class Unsupervised(Objective):
    """−log softmax(z)[next token] of every token of the text, in nats; documents ``[tokens]``.

    For text of a field or a style that has no questions and answers. Longer texts are cut into pieces; chats and
    prompts are read as the chat template writes them, and every token of them is learned. Source: Radford 2018,
    "Improving Language Understanding by Generative Pre-Training", equation 1.

    Example:
        >>> Unsupervised()
        Unsupervised()
    """

    def documents(
        self, corpus: Corpus, tokenizer: PreTrainedTokenizerFast, *, length: int, seed: int
    ) -> Iterator[Rendered]:
        """Yield the texts in pieces; every token but a piece's first is a target."""
        for row in corpus.rows:
            ids = with_end(tokenizer, render(row, tokenizer).ids)
            for start in range(0, len(ids), length):
                piece = ids[start : start + length]
                if len(piece) > 1:
                    yield Rendered(piece, [False] + [True] * (len(piece) - 1))
