"""Rows become tokens through the tokenizer's chat template, with the assistant's own tokens marked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smidgen.data.rows import Message, Row
from smidgen.errors import InvalidInput

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Llama 3's template writes today's date unless one is given; training data must not change overnight.
_DATE = "26 Jul 2024"
_WRITE_YOUR_OWN = "Mend the tokenizer's chat_template, or give the rows as plain text."


@dataclass(frozen=True)
class Rendered:
    """One row as tokens.

    Attributes:
        ids: Token identifiers.
        supervised: For each token, whether it is to be learned as an output. In a plain text every token is; in
            a chat those that the assistant writes, its end-of-turn marks included.
    """

    ids: list[int]
    supervised: list[bool]


def render(row: Row, tokenizer: PreTrainedTokenizerFast) -> Rendered:
    """Turn a row into tokens.

    Chats and prompts with completions go through the chat template. A template is used only when it is stable: the
    chat up to the assistant's turn, rendered with the generation prompt, must be how the longer chat begins. Without a
    template, the turns are put one after the other as plain text, and the end-of-text token closes the row.

    Args:
        row: Plain text, prompt with completion, or messages.
        tokenizer: The model's tokenizer.

    Raises:
        InvalidInput: The template refuses the row or is not stable.
    """
    if row.text is not None:
        ids = [*first_tokens(tokenizer), *encode(tokenizer, row.text)]
        return Rendered(ids, [True] * len(ids))
    if not getattr(tokenizer, "chat_template", None):
        return _concatenated(row, tokenizer)
    return _templated(row, tokenizer)


def encode(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Tokens of a text, without any that the tokenizer would add by itself."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


def first_tokens(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """The begin-of-text token in a list, when this tokenizer puts one before every text; else an empty list."""
    added: list[int] = tokenizer("", add_special_tokens=True, verbose=False)["input_ids"]
    begin = tokenizer.bos_token_id
    return [begin] if begin is not None and added[:1] == [begin] else []


def _concatenated(row: Row, tokenizer: PreTrainedTokenizerFast) -> Rendered:
    ids = list(first_tokens(tokenizer))
    supervised = [False] * len(ids)
    separator = "" if row.messages is None else "\n"
    for turn in row.turns:
        piece = encode(tokenizer, turn.content + separator)
        ids += piece
        supervised += [turn.role == "assistant"] * len(piece)
    if tokenizer.eos_token_id is not None:
        ids.append(tokenizer.eos_token_id)
        supervised.append(row.turns[-1].role == "assistant")
    return Rendered(ids, supervised)


def _templated(row: Row, tokenizer: PreTrainedTokenizerFast) -> Rendered:
    """Mark the assistant's characters in the rendered chat, then the tokens that lie in them."""
    turns = row.turns
    whole = _apply(row, tokenizer, turns, generation_prompt=False)
    spans: list[tuple[int, int]] = []
    for number, turn in enumerate(turns):
        if turn.role != "assistant":
            continue
        before = _apply(row, tokenizer, turns[:number], generation_prompt=True)
        through = _apply(row, tokenizer, turns[: number + 1], generation_prompt=False)
        if not through.startswith(before) or not whole.startswith(through):
            shown = _first_difference(through, before) if not through.startswith(before) else through[-60:]
            raise InvalidInput(
                f"The chat template writes a turn differently once the chat goes on{_place(row)}, so it cannot be "
                f"said which tokens are the assistant's (turn {number + 1}, near {shown!r}).",
                remedy=_WRITE_YOUR_OWN,
            )
        spans.append((len(before), len(through)))
    return _tokens_in_spans(whole, spans, tokenizer)


def _tokens_in_spans(whole: str, spans: list[tuple[int, int]], tokenizer: PreTrainedTokenizerFast) -> Rendered:
    """Encode piece by piece, cut where the assistant's spans begin and end.

    A generation starts after the prompt's own tokens, so no token may reach across that border. White space
    that the template writes after the end-of-turn token is not the assistant's.
    """
    special = set(tokenizer.all_special_ids)
    ids: list[int] = []
    supervised: list[bool] = []
    at = 0
    for start, end in [*spans, (len(whole), len(whole))]:
        before = encode(tokenizer, whole[at:start])
        written = encode(tokenizer, whole[start:end])
        closing = max((number for number, token in enumerate(written) if token in special), default=len(written) - 1)
        if tokenizer.decode(written[closing + 1 :]).strip():
            closing = len(written) - 1
        ids += before + written
        supervised += [False] * len(before) + [number <= closing for number in range(len(written))]
        at = end
    return Rendered(ids, supervised)


def _apply(row: Row, tokenizer: PreTrainedTokenizerFast, turns: tuple[Message, ...], *, generation_prompt: bool) -> str:
    from jinja2 import TemplateError

    chat: list[dict[str, Any]] = [{"role": turn.role, "content": turn.content} for turn in turns]
    try:
        text: str = tokenizer.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=generation_prompt, date_string=_DATE
        )
    except (TemplateError, TypeError, ValueError, IndexError) as error:
        roles = ", ".join(turn.role for turn in row.turns)
        raise InvalidInput(
            f"The chat template refuses a row{_place(row)} with the roles {roles}: {error}.",
            remedy="Change the roles to what the model's template accepts (mostly user and assistant in turn).",
        ) from None
    return text


def _place(row: Row) -> str:
    return f" ({row.origin})" if row.origin else ""


def _first_difference(one: str, other: str) -> str:
    at = next((number for number, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), len(one))
    return other[max(0, at - 20) : at + 40]
