"""SentencePiece's tokenizers between merges and scores, against transformers' converter and llama.cpp's rules."""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import generate_merges

from smidgen.errors import DamagedFile, Unsupported
from smidgen.models.checkpoint import sentencepiece
from smidgen.models.checkpoint.tokenizer import from_gguf, to_gguf
from smidgen.models.checkpoint.tokens import BYTE, CONTROL, NORMAL, UNKNOWN, USER_DEFINED

Builder = Callable[..., PreTrainedTokenizerFast]
KEY = "tokenizer.ggml."


def spec_of(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    spec: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    return spec


def with_spec(spec: dict[str, Any]) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(spec)), bos_token="<|im_start|>", eos_token="<|im_end|>"
    )


def ids_of(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def join_by_score(metadata: dict[str, Any], text: str) -> list[int]:
    """A naive second implementation: join the neighbours whose union scores highest, the leftmost first."""
    known = {
        token: (number, score)
        for number, (token, score, kind) in enumerate(
            zip(metadata[f"{KEY}tokens"], metadata[f"{KEY}scores"], metadata[f"{KEY}token_type"], strict=True)
        )
        if kind == NORMAL
    }
    parts = list(text.replace(" ", "▁"))
    while True:
        unions = [(-known[a + b][1], place) for place, (a, b) in enumerate(pairwise(parts)) if a + b in known]
        if not unions:
            break
        place = heapq.nsmallest(1, unions)[0][1]
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    first = metadata[f"{KEY}tokens"].index("<0x00>")
    spelled = ([known[part][0]] if part in known else [first + byte for byte in part.encode()] for part in parts)
    return [number for numbers in spelled for number in numbers]


@pytest.mark.parametrize("kind", ["gemma", "mistral"])
def test_kinds_and_scores_are_those_of_the_pieces(published_tokenizer: Builder, kind: str) -> None:
    metadata = to_gguf(published_tokenizer(kind, 512), 520)
    tokens, types, scores = (metadata[f"{KEY}{name}"] for name in ("tokens", "token_type", "scores"))
    assert metadata[f"{KEY}add_space_prefix"] is (kind == "mistral")
    assert types.count(BYTE) == 256 and types[3] == UNKNOWN and types[:3] == [CONTROL] * 3
    own = [token for token, each in zip(tokens, types, strict=True) if each == USER_DEFINED]
    assert own == (["\n\n", "  ", "   ", "    ", "<b>"] if kind == "gemma" else [])
    joined = [score for score, each in zip(scores, types, strict=True) if each == NORMAL]
    assert len(set(joined)) == len(joined) and joined == sorted(joined, reverse=True)


@settings(max_examples=100, deadline=None)
@given(text=st.text(alphabet="abcdefghnorstu_.=('é字", max_size=30))
def test_merges_join_what_scores_join(published_tokenizer: Builder, text: str) -> None:
    tokenizer = published_tokenizer("gemma", 512)
    assert ids_of(tokenizer, text) == join_by_score(_metadata(tokenizer), text)


_made: dict[int, dict[str, Any]] = {}


def _metadata(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    if 512 not in _made:
        _made[512] = to_gguf(tokenizer, 512)
    return _made[512]


def test_merges_are_those_of_transformers_converter(published_tokenizer: Builder) -> None:
    metadata = to_gguf(published_tokenizer("mistral", 512), 512)
    merges = [tuple(pair) for pair in spec_of(from_gguf(metadata))["model"]["merges"]]
    normal = {
        token: (number, score)
        for number, (token, score, kind) in enumerate(
            zip(metadata[f"{KEY}tokens"], metadata[f"{KEY}scores"], metadata[f"{KEY}token_type"], strict=True)
        )
        if kind == NORMAL
    }
    expected = generate_merges(
        {token: number for token, (number, _) in normal.items()},
        [(token, score) for token, (_, score) in normal.items()],
    )
    assert set(merges) == set(expected)
    assert [left + right for left, right in merges] == [left + right for left, right in expected]


def test_runs_of_spaces_are_taken_longest_first(published_tokenizer: Builder) -> None:
    tokenizer = from_gguf(to_gguf(published_tokenizer("gemma", 512), 512))
    runs = [tokenizer.convert_tokens_to_ids("▁" * count) for count in (1, 2, 3, 4)]
    for count in range(1, 14):
        found = ids_of(tokenizer, " " * count)
        assert found == [runs[3]] * (count // 4) + ([runs[count % 4 - 1]] if count % 4 else [])
        assert tokenizer.decode(found) == " " * count


@pytest.mark.parametrize(("scheme", "prefix"), [("first", True), ("always", True), ("never", False)])
def test_newer_files_say_the_prefix_in_their_splitting(published_tokenizer: Builder, scheme: str, prefix: bool) -> None:
    spec = spec_of(published_tokenizer("mistral", 512))
    spec["normalizer"] = None
    spec["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False}
    assert sentencepiece.prefix_of(spec) is prefix
    tokenizer = with_spec(spec)
    metadata = to_gguf(tokenizer, 512)
    assert metadata[f"{KEY}add_space_prefix"] is prefix
    assert ids_of(from_gguf(metadata), "for x in y") == ids_of(tokenizer, "for x in y")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda spec: spec["model"]["merges"].pop(), "in a way that a GGUF's scores cannot say"),
        (lambda spec: spec["model"]["merges"].append(spec["model"]["merges"].pop(0)), None),
        (lambda spec: spec["model"].update(dropout=0.1), "no known name"),
        (lambda spec: spec.update(normalizer={"type": "NFKC"}), "no known name"),
        (lambda spec: spec.update(pre_tokenizer={"type": "Whitespace"}), "no known name"),
    ],
)
def test_what_scores_cannot_say_is_refused(
    published_tokenizer: Builder, change: Callable[[dict[str, Any]], object], message: str | None
) -> None:
    spec = spec_of(published_tokenizer("mistral", 512))
    change(spec)
    if message is None:  # another order of whole pieces is another order of scores
        assert to_gguf(with_spec(spec), 512)
        return
    with pytest.raises(Unsupported, match=message):
        to_gguf(with_spec(spec), 512)


def test_a_piece_whose_merges_lie_apart_is_refused(published_tokenizer: Builder) -> None:
    spec = spec_of(published_tokenizer("mistral", 512))
    merges = spec["model"]["merges"]
    unions = [left + right for left, right in merges]
    place = next(number for number, union in enumerate(unions) if unions.count(union) > 1)
    merges.append(merges.pop(place))
    with pytest.raises(Unsupported, match="scores cannot say"):
        to_gguf(with_spec(spec), 512)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("scores", None, "no list of tokenizer scores"),
        ("scores", [1] * 512, "no list of tokenizer scores"),
        ("scores", [float("nan")] * 512, "no list of tokenizer scores"),
        ("scores", [0.0] * 511, "one type and one score to each of its 512"),
        ("token_type", [1] * 511, "one type to each"),
        ("tokens", ["a"] * 512, "names a token twice"),
    ],
)
def test_damaged_pieces_are_refused(published_tokenizer: Builder, name: str, value: Any, message: str) -> None:
    metadata = to_gguf(published_tokenizer("gemma", 512), 512) | {f"{KEY}{name}": value}
    with pytest.raises(DamagedFile, match=message):
        from_gguf(metadata)
