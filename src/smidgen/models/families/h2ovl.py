"""H2OVL-Mississippi 0.8B and 2B."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from smidgen.errors import InvalidInput, Unsupported
from smidgen.models.families.internvl import Internvl, numbered, spelled
from smidgen.models.vision import Shown, Vision, tiles

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

ASKED, ANSWERED, END = "<|prompt|>", "<|answer|>", "<|end|>"
TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message.role not in ('user', 'assistant') -%}"
    "{{- raise_exception('H2OVL-Mississippi knows questions and answers only.') -}}"
    "{%- endif -%}"
    f"{{{{- '{ASKED}' if message.role == 'user' else '{ANSWERED}' -}}}}"
    "{%- if '<__media_' in message.content -%}{{- message.content | replace('__>', '__>\n') -}}"
    "{%- else -%}{{- message.content -}}{%- endif -%}"
    f"{{{{- '{END}' -}}}}"
    "{%- endfor -%}"
    f"{{%- if add_generation_prompt -%}}{{{{- '{ANSWERED}' -}}}}{{%- endif -%}}"
)
"""The same layout for llama.cpp, which writes a mark, ``<__media__>``, in the place of each image."""

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
        _, most = self.tile_counts(published)
        return [*found, tiles.nearest(size, tiles.second_grids(found[0], SECOND_LEAST, most), self.side(vision))]

    def gguf_layout(self) -> dict[str, Any]:
        """Return the template, and that no token stands before it."""
        return {"tokenizer.ggml.add_bos_token": False, "tokenizer.chat_template": TEMPLATE}

    def projector(self, vision: Vision) -> tuple[dict[str, Any], dict[str, str]]:
        """Return what InternVL does, where one look is enough.

        Raises:
            Unsupported: The model looks twice, which llama.cpp cannot.
        """
        if vision.published.get("use_msac"):
            raise Unsupported(
                "This model looks at an image twice, by two grids, and llama.cpp cuts it by one.",
                remedy="Ask for safetensors instead, which torch runs.",
            )
        return super().projector(vision)

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
