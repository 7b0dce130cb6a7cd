"""Corpora become fixed windows of tokens: consecutive for measuring, packed by document for training."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smidgen.data.chat import Rendered, first_tokens, render
from smidgen.data.rows import Corpus, Row
from smidgen.errors import InvalidInput

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast

SHARED = -2
"""Segment of what all documents of a row begin with: it stands once, before them, and each of them sees it."""

_NOTHING = -1
_BATCH = 64
_FEWEST_SHARED = 8
"""Tokens of a common beginning from which it is worth while to write it once."""


_Piece = tuple[list[int], list[bool]]


@dataclass(frozen=True)
class PackedRows:
    """Documents packed into rows of one length; all four are [n, length].

    Attributes:
        ids: Token identifiers; padded with the end-of-text token.
        supervised: Whether the token is a target. A document's first token and padding never are, so a shifted
            loss never predicts across a border.
        segments: Number of the document inside its row from 0; -1 is padding. Attention must stay inside one, and in
            `SHARED`, what all documents of the row begin with.
        positions: Position inside the document, counted from 0, a shared beginning included.
    """

    ids: torch.Tensor
    supervised: torch.Tensor
    segments: torch.Tensor
    positions: torch.Tensor


def windows(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerFast,
    *,
    length: int = 512,
    count: int | None = None,
    seed: int | None = None,
) -> torch.Tensor:
    """Consecutive windows of tokens, as llama.cpp's perplexity tool cuts them.

    The documents are joined with the end-of-text token, the stream is cut every ``length`` tokens and a shorter
    rest is left out. Where the tokenizer puts a begin-of-text token before every text, the first token of each window
    is replaced by it, as llama.cpp does.

    Args:
        corpus: What to cut.
        tokenizer: The model's tokenizer.
        length: Tokens per window.
        count: At most so many windows; all of them when None.
        seed: Shuffles the documents first; None keeps their order.

    Returns:
        Token identifiers (int64), [n, length] with n ≥ 1.

    Raises:
        InvalidInput: The corpus has fewer tokens than one window, or ``length`` or ``count`` is below 1.
    """
    import torch

    if length < 1 or (count is not None and count < 1):
        raise InvalidInput(f"Windows need a length and a count of at least 1, not {length} and {count}.")
    rows = list(corpus.rows)
    if seed is not None:
        random.Random(seed).shuffle(rows)
    stream: list[int] = []
    for rendered in _rendered(rows, tokenizer):
        if stream and tokenizer.eos_token_id is not None and stream[-1] != tokenizer.eos_token_id:
            stream.append(tokenizer.eos_token_id)
        stream += rendered.ids
        if count is not None and len(stream) >= count * length:
            break
    number = min(len(stream) // length, count or len(stream))
    if number == 0:
        raise _too_short(corpus, len(stream), length)
    cut = torch.tensor(stream[: number * length], dtype=torch.long).view(number, length)
    if begin := first_tokens(tokenizer):
        cut[:, 0] = begin[0]
    return cut


def pack(
    corpus: Corpus, tokenizer: PreTrainedTokenizerFast, *, length: int, supervised_only: bool = False
) -> PackedRows:
    """Pack documents into rows without cross-talk: first fit in order, best filled row first.

    Each document ends with the end-of-text token. Longer documents are cut into pieces of ``length``.

    Args:
        corpus: What to pack.
        tokenizer: The model's tokenizer.
        length: Tokens per row, at least 2.
        supervised_only: In prompts and chats only what the assistant writes is a target, and pieces without any
            target are left out. Otherwise every token is a target.

    Raises:
        InvalidInput: Nothing remains to learn from, or ``length`` is below 2.
    """
    if length < 2:
        raise InvalidInput(f"Packed rows need a length of at least 2 tokens, not {length}.")
    pieces: list[_Piece] = []
    for rendered in _rendered(corpus.rows, tokenizer):
        targets = rendered.supervised if supervised_only else [True] * len(rendered.ids)
        pieces += _pieces(rendered.ids, targets, tokenizer.eos_token_id, length)
    if not pieces:
        wanted = "an assistant's answer" if supervised_only else "two tokens or more"
        raise InvalidInput(
            f"No row of {corpus.name} has {wanted} to learn from.",
            remedy="Give rows with prompt and completion, or messages." if supervised_only else "Give more text.",
        )
    padding = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else 0
    return _tensors(_fit(pieces, length), length, padding)


def pack_documents(
    documents: Sequence[Rendered], tokenizer: PreTrainedTokenizerFast, *, length: int, share: bool = False
) -> PackedRows:
    """Pack documents that are tokens already into rows without cross-talk, the best filled row first.

    Args:
        documents: Each of at most ``length`` tokens; its first token is no target, whatever it says.
        tokenizer: The model's tokenizer.
        length: Tokens per row.
        share: Write what most documents begin with (an instruction) once in each row, before all that have it, where
            that takes fewer rows. It holds no target. Prefix sharing: Wang 2024, arXiv 2410.20305.
    """
    pieces = [(each.ids, [False, *each.supervised[1:]]) for each in documents]
    padding = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else 0
    rows = _fit(pieces, length)
    begin, behind, others = _shared(pieces) if share else ([], [], pieces)
    together = _fit(behind, length - len(begin))
    fewer = [*together, *_fit(others, length)]
    if begin and len(fewer) < len(rows):
        return _tensors(fewer, length, padding, begin, len(together))
    return _tensors(rows, length, padding)


def token_use(corpus: Corpus, tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """Count how often the corpus uses each token.

    Returns:
        Counts (int64), [vocabulary], added tokens included.
    """
    import torch

    counts = torch.zeros(len(tokenizer), dtype=torch.long)
    for rendered in _rendered(corpus.rows, tokenizer):
        counts += torch.bincount(torch.tensor(rendered.ids, dtype=torch.long), minlength=len(tokenizer))
    return counts


def _rendered(rows: Sequence[Row], tokenizer: PreTrainedTokenizerFast) -> Iterator[Rendered]:
    """Render rows in order, plain texts in batches (the tokenizer then uses every core)."""
    begin = first_tokens(tokenizer)
    for start in range(0, len(rows), _BATCH):
        batch = rows[start : start + _BATCH]
        texts = [row.text for row in batch if row.text is not None]
        encoded = iter(tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else [])
        for row in batch:
            if row.text is None:
                yield render(row, tokenizer)
            else:
                ids = begin + next(encoded)
                yield Rendered(ids, [True] * len(ids))


def _too_short(corpus: Corpus, tokens: int, length: int) -> InvalidInput:
    per_token = corpus.characters / tokens if tokens else 4.0
    missing = max(1, round((length - tokens) * per_token))
    return InvalidInput(
        f"{corpus.name} has {tokens:,} tokens; one window needs {length:,}.",
        remedy=f"Add about {missing:,} characters of text, or choose windows of at most {max(tokens, 1):,} tokens.",
    )


def _pieces(ids: list[int], targets: list[bool], end: int | None, length: int) -> list[_Piece]:
    """Close one document with the end-of-text token and cut it into pieces that have at least one target."""
    if end is not None and ids and end not in ids[-2:]:
        ids, targets = [*ids, end], [*targets, targets[-1]]
    cuts = [(ids[at : at + length], [False, *targets[at + 1 : at + length]]) for at in range(0, len(ids), length)]
    return [(tokens, wanted) for tokens, wanted in cuts if any(wanted)]


def _shared(pieces: list[_Piece]) -> tuple[list[int], list[_Piece], list[_Piece]]:
    """Return how most pieces begin, what follows in each of them, and those that begin otherwise.

    What follows has at least one token before its first target: that is predicted from its own document.
    """
    most = Counter(tuple(ids[:_FEWEST_SHARED]) for ids, _ in pieces).most_common(1)[0][0]
    having = [piece for piece in pieces if tuple(piece[0][:_FEWEST_SHARED]) == most]
    begins = [ids[: max(0, targets.index(True) - 1)] for ids, targets in having]
    pairs = zip(min(begins), max(begins), strict=False)  # what the first and the last in order share, all share
    begin = [one for one, other in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)]
    if len(begin) < _FEWEST_SHARED:
        return [], [], pieces
    behind = [(ids[len(begin) :], targets[len(begin) :]) for ids, targets in having]
    return begin, behind, [piece for piece in pieces if tuple(piece[0][:_FEWEST_SHARED]) != most]


def _fit(pieces: list[_Piece], length: int) -> list[list[_Piece]]:
    """Put every piece into the fullest row that has room for it (best fit)."""
    rows: list[list[_Piece]] = []
    by_room: dict[int, list[int]] = {}
    for piece in pieces:
        size = len(piece[0])
        room = min((room for room, members in by_room.items() if room >= size and members), default=None)
        if room is None:
            rows.append([])
            number, room = len(rows) - 1, length
        else:
            number = by_room[room].pop()
        rows[number].append(piece)
        by_room.setdefault(room - size, []).append(number)
    return rows


def _tensors(
    rows: list[list[_Piece]], length: int, padding: int, begin: Sequence[int] = (), having: int = 0
) -> PackedRows:
    """Write pieces into rows, the first ``having`` of them behind what they share."""
    import torch

    ids = torch.full((len(rows), length), padding, dtype=torch.long)
    supervised = torch.zeros((len(rows), length), dtype=torch.bool)
    segments = torch.full((len(rows), length), _NOTHING, dtype=torch.long)
    positions = torch.zeros((len(rows), length), dtype=torch.long)
    ids[:having, : len(begin)], segments[:having, : len(begin)] = torch.tensor(list(begin)).long(), SHARED
    positions[:having, : len(begin)] = torch.arange(len(begin))
    for number, row in enumerate(rows):
        first = at = len(begin) if number < having else 0
        for segment, (tokens, targets) in enumerate(row):
            place = slice(at, at + len(tokens))
            ids[number, place] = torch.tensor(tokens)
            supervised[number, place] = torch.tensor(targets)
            segments[number, place] = segment
            positions[number, place] = torch.arange(first, first + len(tokens))
            at += len(tokens)
    return PackedRows(ids, supervised, segments, positions)
