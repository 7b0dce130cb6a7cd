"""Lays conversations out with the template that a tokenizer brings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smidgen.errors import InvalidInput

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def templated(tokenizer: PreTrainedTokenizerFast, turns: Sequence[tuple[str, str]]) -> str:
    """Return a conversation as its model reads it, up to where the answer begins.

    Args:
        tokenizer: Has a chat template.
        turns: Roles and texts.

    Raises:
        InvalidInput: There is no template, or it refuses the conversation.
    """
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        raise InvalidInput(
            "This model has no chat template.", remedy="Let it continue the text as it stands: smidgen run --raw."
        )
    said = [{"role": role, "content": text} for role, text in turns]
    try:
        text: str = tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=False)
    except TemplateError as error:
        raise InvalidInput(f"The model's chat template refuses the conversation: {error}.") from error
    return text
