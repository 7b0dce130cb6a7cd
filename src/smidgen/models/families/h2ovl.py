"""H2OVL-Mississippi 0.8B and 2B."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from smidgen.errors import InvalidInput
from smidgen.models.families.internvl import Internvl, numbered, spelled
from smidgen.models.vision import Shown, Vision, tiles

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ASKED, ANSWERED, END = "<|prompt|>", "<|answer|>", "<|end|>"
SECOND_LEAST = 3
"""Tiles that the second look at an image has at least."""


class H2ovl(Internvl):
    """The H2OVL-Mississippi family.

    Peculiar: an InternVL of up to 6 tiles with the language model Danube 3 (a Llama) or Danube 2 (a Mistral); the one
    with Danube 2 looks at a single image twice, by two grids that cut it at different places (multi-scale adaptive
    cropping). It has a layout of conversations of its own, without a token at the beginning and without system
    messages. Source: arXiv 2410.13611.
    """

    architecture: ClassVar[str] = "H2OVLChatModel"
    published_architectures: ClassVar[tuple[str, ...]] = ("h2ovl_chat",)
    most_tiles: ClassVar[int] = 6

    def grids(self, vision: Vision, size: tuple[int, int], count: int) -> list[tiles.Grid]:
        """Return the grid of the first look, and of the second where the model takes one."""
        found = super().grids(vision, size, count)
        published = vision.published
        if not published.get("use_msac") or count > 1 or not published.get("dynamic_image_size", True):
            return found
        most = published.get("max_dynamic_patch", self.most_tiles)
        return [*found, tiles.nearest(size, tiles.second_grids(found[0], SECOND_LEAST, most), self.side(vision))]

    def layout(self, vision: Vision, tokenizer: PreTrainedTokenizerFast, turns: Sequence[Shown]) -> list[int]:
        """Lay a conversation out.

        Raises:
            InvalidInput: It has a system message, or turns of other roles.
        """
        marks, text = {"user": ASKED, "assistant": ANSWERED}, ""
        for turn in turns:
            if turn.role not in marks:
                raise InvalidInput(
                    f"H2OVL-Mississippi knows questions and answers, and no message of the role {turn.role!r}.",
                    remedy="Say it in the question.",
                )
            text += f"{marks[turn.role]}{spelled(turn)}{END}"
        return numbered(tokenizer, text + ANSWERED, turns)

    def end_tokens(self, vision: Vision, tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
        """Return the end of a turn and the end of a text."""
        found = [tokenizer.convert_tokens_to_ids(END), tokenizer.eos_token_id]
        return frozenset(number for number in found if number is not None and number != tokenizer.unk_token_id)
