"""Learn to answer as the examples do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smidgen.data.chat import Rendered, render
from smidgen.data.rows import Row
from smidgen.errors import InvalidInput
from smidgen.shrink.finetune.objectives import Objective

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from smidgen.data.rows import Corpus


@dataclass(frozen=True)
class Supervised(Objective):
    r"""−log softmax(z)[next token] of the answer's tokens, in nats; the prompt is read, not learned; ``[tokens]``.

    For prompts with completions, chats, and texts with labels (the label is the answer). Rows go through the chat
    template of the tokenizer, and each answer's end-of-turn token is learned with it. Of a row that is too long the
    end is kept whole, so that an answer is preceded by what stood directly before it. Source: Ouyang 2022, arXiv
    2203.02155, section 3.5; the masked prompt: Shi 2024, arXiv 2405.14394, whose section 2 compares both.

    Attributes:
        instruction: What is asked before each labelled text, as "Is this message spam or ham?".

    Example:
        >>> Supervised("Spam or ham?").example(Row("Win cash now", label="spam")).prompt
        'Spam or ham?\n\nWin cash now'
    """

    instruction: str | None = None

    def example(self, row: Row) -> Row:
        """Return a row as a prompt with its answer, or as the chat that it is.

        Raises:
            InvalidInput: It is plain text without a label.
        """
        if row.text is None:
            return row
        if row.label is None:
            place = f" ({row.origin})" if row.origin else ""
            raise InvalidInput(
                f"A text without an answer teaches no answering{place}.",
                remedy="Give prompt and completion, messages, or text with label; or take --objective unsupervised.",
            )
        prompt = row.text if self.instruction is None else f"{self.instruction}\n\n{row.text}"
        return Row(prompt=prompt, completion=row.label, label=row.label, origin=row.origin)

    def documents(
        self, corpus: Corpus, tokenizer: PreTrainedTokenizerFast, *, length: int, seed: int
    ) -> Iterator[Rendered]:
        """Yield each row; where it is too long, in pieces that are cut from its end."""
        for row in corpus.rows:
            rendered = render(self.example(row), tokenizer)
            for stop in range(len(rendered.ids), 0, -length):
                start = max(0, stop - length)
                targets = [False, *rendered.supervised[start + 1 : stop]]
                if any(targets):
                    yield Rendered(rendered.ids[start:stop], targets)
