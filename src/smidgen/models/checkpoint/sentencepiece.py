"""SentencePiece's BPE tokenizers (Gemma, Llama 2, Mistral) between a GGUF's scores and a tokenizer.json's merges.

llama.cpp joins the two neighbouring pieces whose union has the highest score; the tokenizers package joins those
whose merge stands first in a list. The two agree where the list holds, in the order of the scores, every way of
cutting every piece in two (Kudo and Richardson 2018, arXiv 1808.06226; merges as in transformers' converter).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from smidgen.errors import DamagedFile, Unsupported
from smidgen.models.checkpoint.tokens import BYTE, CONTROL, NORMAL, UNKNOWN, USER_DEFINED, is_filler, table

KIND = "llama"
"""What ``tokenizer.ggml.model`` says of such a tokenizer."""

SPACE = "▁"
BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
"""How the tokens of single bytes are written."""

_REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
_PREPEND = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, _REPLACE]}

Pair = tuple[str, str]


def build(
    tokens: Sequence[str],
    types: Sequence[int],
    scores: Sequence[float],
    *,
    prefix: bool,
    unknown: str | None,
    strips: Callable[[str], bool] = lambda piece: False,
) -> Any:
    """Build the tokenizer of a GGUF's pieces.

    Args:
        tokens: The pieces by id; in pieces that the user defined a space stands for itself.
        types: Their kinds, see `smidgen.models.checkpoint.tokens`.
        scores: Their scores; the higher, the earlier two pieces are joined to this one.
        prefix: Whether a space is put before a text.
        unknown: The piece that stands for what cannot be spelled.
        strips: Whether a special piece takes in the white space after it.

    Raises:
        DamagedFile: A piece stands twice, or the lists differ in length.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

    if not len(tokens) == len(types) == len(scores):
        raise DamagedFile(f"The GGUF file does not give one type and one score to each of its {len(tokens):,} tokens.")
    pieces = [
        token.replace(" ", SPACE) if kind == USER_DEFINED else token for token, kind in zip(tokens, types, strict=True)
    ]
    if len(set(pieces)) < len(pieces):
        raise DamagedFile("The GGUF file names a token twice.", remedy="Fetch or convert it again.")
    rows = [(piece, kind, number) for number, (piece, kind) in enumerate(zip(pieces, types, strict=True))]
    vocabulary = {piece: number for piece, kind, number in rows if not is_filler(piece, kind, number)}
    normal = sorted((number for _, kind, number in rows if kind == NORMAL), key=lambda number: -scores[number])
    runs = [piece for piece, kind, _ in rows if kind == USER_DEFINED and SPACE in piece]
    merges = _merges([pieces[number] for number in normal], runs, vocabulary)
    core = Tokenizer(models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    spaces = normalizers.Replace(" ", SPACE)
    core.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), spaces]) if prefix else spaces
    last = [decoders.Strip(" ", 1, 0)] if prefix else []
    core.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *last])
    special = [piece for piece, kind, _ in rows if kind in (CONTROL, UNKNOWN)]
    core.add_special_tokens(
        [AddedToken(piece, rstrip=strips(piece), normalized=False, special=True) for piece in special]
    )
    own = [piece for piece, kind, _ in rows if kind == USER_DEFINED]
    core.add_tokens([AddedToken(piece, rstrip=strips(piece), normalized=False) for piece in own])
    return core


def _merges(normal: Sequence[str], runs: Sequence[str], vocabulary: Mapping[str, int]) -> list[Pair]:
    """Return every way of cutting each piece in two, the pieces of the highest score first.

    Args:
        normal: Ordinary pieces in the order of their scores.
        runs: Pieces of the user's with spaces in them. They are taken before all else, the longest first.
        vocabulary: Ids by piece.
    """
    first = [pair for piece in runs for pair in _cuts(piece, {*runs, *normal})]
    first.sort(key=lambda pair: (-len(pair[0]), -len(pair[1]), pair))
    known, rest = set(normal), []
    for piece in normal:
        rest += sorted(_cuts(piece, known), key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
    return first + rest


def _cuts(piece: str, known: set[str]) -> list[Pair]:
    cuts = ((piece[:index], piece[index:]) for index in range(1, len(piece)))
    return [pair for pair in cuts if pair[0] in known and pair[1] in known]


def prefix_of(spec: Mapping[str, Any]) -> bool | None:
    """Return whether a tokenizer.json puts a space before a text; None where it is not of this kind.

    Newer files put it before the first text only, and not where a space stands already; a GGUF cannot say so,
    and llama.cpp puts it before every text between special tokens, as SentencePiece itself does.
    """
    model, normalizer, splitting = spec["model"], spec["normalizer"], spec["pre_tokenizer"]
    odd = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges")
    if model["type"] != "BPE" or not model.get("byte_fallback") or any(model.get(key) for key in odd):
        return None
    if normalizer is None and splitting is not None and splitting["type"] == "Metaspace":
        whole = splitting.get("replacement") == SPACE and not splitting.get("split", True)
        return splitting.get("prepend_scheme", "always") != "never" if whole else None
    # Once spaces are replaced none is left to split at.
    idle = splitting is None or (splitting["type"] == "Split" and splitting.get("pattern") == {"String": " "})
    return {str(_REPLACE): False, str(_PREPEND): True}.get(str(normalizer)) if idle else None


def to_gguf(spec: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """Return the GGUF's pieces, types and scores of a tokenizer.json.

    Args:
        spec: The tokenizer.json; `prefix_of` must know it.
        rows: Rows of the embedding.

    Raises:
        InvalidInput: A token has no row.
        Unsupported: Its merges are not those of scores, so that llama.cpp would join other pieces.
    """
    tokens, types = table(spec, rows)
    unknown = spec["model"].get("unk_token")
    for number, token in enumerate(tokens):
        if token == unknown:
            types[number] = UNKNOWN
        elif types[number] == NORMAL and BYTE_TOKEN.fullmatch(token):
            types[number] = BYTE
        elif types[number] == USER_DEFINED:
            tokens[number] = token.replace(SPACE, " ")
    normal = [token for token, kind in zip(tokens, types, strict=True) if kind == NORMAL]
    order = _order(spec["model"]["merges"], normal)
    lowest = -float(len(tokens))
    scores = [-float(order[token]) if kind == NORMAL else lowest for token, kind in zip(tokens, types, strict=True)]
    return {
        "tokenizer.ggml.model": KIND,
        "tokenizer.ggml.pre": "default",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0 if kind == BYTE else score for score, kind in zip(scores, types, strict=True)],
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.add_space_prefix": bool(prefix_of(spec)),
    }


def _order(merges: Sequence[Any], normal: Sequence[str]) -> dict[str, int]:
    """Return each ordinary piece's place in the order in which pieces are joined."""
    known, order, made = set(normal), dict[str, int](), Counter[str]()
    last = ""
    for merge in merges:
        left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
        piece = left + right
        if left in known and right in known and piece in known:
            if piece != last and piece in order:
                raise _refusal(piece)
            order.setdefault(piece, len(order))
            made[piece] += 1
            last = piece
    for piece in normal:
        if made[piece] != len(_cuts(piece, known)):
            raise _refusal(piece)
        order.setdefault(piece, len(order))
    return order


def _refusal(piece: str) -> Unsupported:
    return Unsupported(
        f"This tokenizer joins pieces to {piece!r} in a way that a GGUF's scores cannot say.",
        remedy="Ask for safetensors instead.",
    )
