"""Prompts of Phi-3 vision: cut into tokens piece by piece, with the places of images between the pieces."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from smidgen.errors import InvalidInput
from smidgen.models.vision import PLACE, Shown, pictures_of
from smidgen.models.vision.texts import templated

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TAG = re.compile(r"<\|image_(\d{1,4})\|>")
"""How a text says where an image belongs."""


def laid_out(tokenizer: PreTrainedTokenizerFast, turns: Sequence[Shown]) -> list[int]:
    """Return a conversation as tokens, `PLACE` where pictures stand, up to where the answer begins.

    Each piece of text before, between and behind images gets the tokens that begin a text.

    Args:
        tokenizer: The model's.
        turns: The conversation.

    Raises:
        InvalidInput: Texts name some of the images and not all, one that is not there, or a later one first.
    """
    mark = f"<{uuid.uuid4().hex}>"
    pieces = re.split(f"{mark}(\\d+)\\|", _written(tokenizer, list(_with_marks(turns, mark))))
    shown, ids = pictures_of(turns), list[int]()
    for index, piece in enumerate(pieces):
        ids += [PLACE] * shown[int(piece) - 1].places if index % 2 else tokenizer(piece).input_ids
    return ids


def _with_marks(turns: Sequence[Shown], mark: str) -> Iterator[tuple[str, str]]:
    """Yield every turn's role and text, with ``mark``, a number and a bar where the image of that number belongs.

    An image that no text names stands where it was shown, on a line of its own.
    """
    count = len(pictures_of(turns))
    texts = [part for turn in turns for part in turn.parts if isinstance(part, str)]
    named = [int(found[1]) for text in texts for found in TAG.finditer(text)]
    if named and named != list(range(1, count + 1)):
        tags = ", ".join(f"<|image_{number}|>" for number in named)
        raise InvalidInput(
            f"The texts name the images {tags}, and the conversation shows {count}.",
            remedy="Name each image once and in order, beginning with <|image_1|>, or none of them.",
        )
    number = 0
    for turn in turns:
        text = ""
        for part in turn.parts:
            if isinstance(part, str):
                text += TAG.sub(lambda found: f"{mark}{found[1]}|", part)
                continue
            number += 1
            text += "" if named else f"{mark}{number}|\n"
        yield turn.role, text


def _written(tokenizer: PreTrainedTokenizerFast, said: Sequence[tuple[str, str]]) -> str:
    """Lay texts out as the tokenizer's template says, or as published where it has none."""
    if tokenizer.chat_template:
        return templated(tokenizer, said)
    return "".join(f"<|{role}|>\n{text}<|end|>\n" for role, text in said) + "<|assistant|>\n"
