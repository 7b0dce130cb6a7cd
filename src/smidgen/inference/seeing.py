"""Conversations with images for models that torch runs: what is shown, and reading out the text in images."""

from __future__ import annotations

import io
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from smidgen.errors import Unsupported
from smidgen.inference import images
from smidgen.inference.engine import Chunk, Message, Metrics
from smidgen.models.vision import Picture, Shown

if TYPE_CHECKING:
    from PIL.Image import Image

    from smidgen.models.model import Model

MOST_SPACES = 30
"""White pieces in a row after which a reading is over: small models end many a page so, and then go on for ever."""


def is_reading(messages: Sequence[Message]) -> bool:
    """Whether the last message shows images and says nothing, so that the text in them is asked for."""
    last = messages[-1]
    return last.role == "user" and bool(last.images) and not last.content.replace(images.PLACE, "").strip()


def shown(model: Model, messages: Sequence[Message]) -> list[Shown]:
    """Return a conversation with its images as pixels.

    Where the last message is only images, the question stands there that makes such a model read out their text.

    Args:
        model: The model.
        messages: The conversation.

    Raises:
        Unsupported: There are images, and the model reads none.
        InvalidInput: An image cannot be read.
    """
    if is_reading(messages) and model.vision is not None:
        asked = replace(messages[-1], content=model.vision.family.transcription)
        messages = [*messages[:-1], asked]
    pictures = _pictures(model, [image for message in messages for image in message.images])
    found = []
    for message in messages:
        own, pictures = pictures[: len(message.images)], pictures[len(message.images) :]
        found.append(Shown(message.role, placed(message.content, own)))
    return found


def placed(text: str, pictures: Sequence[Picture]) -> tuple[str | Picture, ...]:
    """Put pictures where a text says that they belong, the others before it.

    Example:
        >>> placed("Is [img] like [img]?", ["one", "two", "three"])
        ('one', 'Is ', 'two', ' like ', 'three', '?')
    """
    named = min(len(pictures), text.count(images.PLACE))
    before = len(pictures) - named
    first, *others = text.split(images.PLACE, named)
    parts: list[str | Picture] = [*pictures[:before], first]
    for picture, rest in zip(pictures[before:], others, strict=True):
        parts += [picture, rest]
    return tuple(part for part in parts if part != "")


def ended_by_spaces(answer: Generator[Chunk, None, None], prompt_tokens: int) -> Generator[Chunk, None, None]:
    """Pass an answer on until it is nothing but white space for too long.

    Args:
        answer: The answer; it is closed where it is ended.
        prompt_tokens: What the metrics of one that is ended say of the prompt.
    """
    started, first, row = time.perf_counter(), 0.0, 0
    for count, chunk in enumerate(answer, 1):
        yield chunk
        first = first or time.perf_counter()
        row = row + 1 if chunk.text and not chunk.text.strip() else 0
        if row == MOST_SPACES:
            answer.close()
            writing = time.perf_counter() - first
            yield Chunk("", True, "stop", Metrics(prompt_tokens, count, first - started, writing, 0.0))
            return


def _pictures(model: Model, found: Sequence[bytes]) -> list[Picture]:
    if not found:
        return []
    if model.vision is None:
        raise Unsupported("This model reads no images.", remedy="Ask one that does, or leave the images out.")
    return model.vision.family.pictures(model.vision, [_opened(image) for image in images.plain_all(found)])


def _opened(png: bytes) -> Image:
    from PIL import Image

    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        return image.convert("RGB")
