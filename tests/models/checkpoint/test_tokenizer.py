"""Tokenizers through GGUF and back, against the original and against llama.cpp."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from smidgen.errors import DamagedFile, InvalidInput, Unsupported
from smidgen.export import gguf
from smidgen.inference.scoring import PromptScorer
from smidgen.models import families
from smidgen.models.checkpoint import gguf as container
from smidgen.models.checkpoint.tokenizer import SPLITTINGS, from_gguf, special_ids, to_gguf
from smidgen.models.checkpoint.tokens import NORMAL, UNUSED
from smidgen.models.lineage import Lineage, Origin
from smidgen.models.model import Model

SIZE, ROWS = 512, 528
EVERY = (*SPLITTINGS, "gemma", "mistral")
every_splitting = pytest.mark.parametrize("splitting", EVERY)
Builder = Callable[..., PreTrainedTokenizerFast]


def ids_of(tokenizer: PreTrainedTokenizerFast, text: str, *, special: bool = True) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=special)["input_ids"]
    return ids


def altered(tokenizer: PreTrainedTokenizerFast, change: Callable[[dict[str, Any]], None]) -> PreTrainedTokenizerFast:
    """The same tokenizer with its tokenizer.json changed."""
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    change(spec)
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(spec)), bos_token="<|im_start|>", eos_token="<|im_end|>"
    )


def test_every_splitting_is_tried() -> None:
    assert set(SPLITTINGS) == {"smollm", "gpt-2", "llama-bpe", "qwen2"}


@every_splitting
@pytest.mark.parametrize("begins", [False, True])
def test_a_round_trip_keeps_every_id(
    published_tokenizer: Builder, hard_text: str, splitting: str, begins: bool
) -> None:
    original = published_tokenizer(splitting, SIZE, begins=begins)
    metadata = to_gguf(original, ROWS)
    assert metadata["tokenizer.ggml.pre"] == (splitting if splitting in SPLITTINGS else "default")
    again = from_gguf(metadata)
    for text in (hard_text, *hard_text.splitlines(keepends=True), "", " "):
        for special in (True, False):
            assert ids_of(again, text, special=special) == ids_of(original, text, special=special)
    assert ids_of(again, "a")[0] == 1 if begins else ids_of(again, "a")[0] != 1
    assert again.decode(ids_of(original, hard_text)) == original.decode(ids_of(original, hard_text))
    assert again.chat_template == original.chat_template
    for name in ("bos", "eos", "pad", "unk"):
        assert getattr(again, f"{name}_token_id") == getattr(original, f"{name}_token_id")
    assert again.all_special_ids == original.all_special_ids
    assert to_gguf(again, ROWS) == metadata


@every_splitting
@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=40))
def test_any_text_keeps_its_ids(splitting: str, text: str, published_tokenizer: Builder) -> None:
    original = published_tokenizer(splitting, SIZE)
    assert ids_of(_again(splitting, original), text) == ids_of(original, text)


_read: dict[str, PreTrainedTokenizerFast] = {}


def _again(splitting: str, original: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    if splitting not in _read:
        _read[splitting] = from_gguf(to_gguf(original, SIZE))
    return _read[splitting]


@pytest.fixture(scope="module")
def scorer(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, published_tokenizer: Builder
) -> Iterator[tuple[PreTrainedTokenizerFast, PromptScorer]]:
    """A tokenizer and llama.cpp with the GGUF written of it."""
    splitting, begins = request.param
    tokenizer = published_tokenizer(splitting, SIZE, begins=begins)
    config = LlamaConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        intermediate_size=32,
        vocab_size=ROWS,
        tie_word_embeddings=True,
    )
    family = families.for_architecture("LlamaForCausalLM")
    model = Model(LlamaForCausalLM(config), tokenizer, family, Lineage(Origin("tiny", "0" * 64, 1, 1)))
    path = tmp_path_factory.mktemp("tokenizer") / "tiny.gguf"
    gguf.write(model, path)
    with PromptScorer(path, threads=1, context=8) as opened:
        yield tokenizer, opened


@pytest.mark.parametrize("scorer", [(name, begins) for name in EVERY for begins in (False, True)], indirect=True)
def test_llama_cpp_cuts_text_alike(scorer: tuple[PreTrainedTokenizerFast, PromptScorer], hard_text: str) -> None:
    tokenizer, engine = scorer
    # Qwen2's tokenizer composes characters first, llama.cpp's does not: they agree on composed text.
    composed = unicodedata.normalize("NFC", hard_text)
    for text in (composed, *composed.splitlines(keepends=True)):
        assert engine.tokenize(text, special=True) == ids_of(tokenizer, text)
    plain = composed.replace("<|im_start|>", "").replace("<|im_end|>", "")
    assert engine.tokenize(plain) == ids_of(tokenizer, plain, special=False)
    assert engine.bos_token == (1 if ids_of(tokenizer, "a")[0] == 1 else None)


def test_the_published_model_is_cut_as_llama_cpp_cuts_it(smollm2_gguf: Path, hard_text: str) -> None:
    tokenizer = from_gguf(container.read(smollm2_gguf).metadata)
    with PromptScorer(smollm2_gguf, threads=1, context=8) as engine:
        for text in (hard_text, *hard_text.splitlines(keepends=True)):
            assert engine.tokenize(text, special=True) == ids_of(tokenizer, text)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (1, 2, 0)
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert prompt.endswith("<|im_start|>user\nHi<|im_end|>\n")


def test_rows_without_a_token_are_unused_and_stay_no_tokens(published_tokenizer: Builder) -> None:
    metadata = to_gguf(published_tokenizer("smollm", 400), ROWS)
    assert metadata["tokenizer.ggml.tokens"][400:] == [f"[PAD{number}]" for number in range(400, ROWS)]
    assert set(metadata["tokenizer.ggml.token_type"][400:]) == {UNUSED}
    again = from_gguf(metadata)
    assert len(again) == 400
    assert "[PAD400]" not in again.get_vocab()


def test_an_unused_token_with_a_name_of_its_own_is_kept(published_tokenizer: Builder) -> None:
    metadata = to_gguf(published_tokenizer("smollm", 400), 402)
    metadata["tokenizer.ggml.tokens"][400] = "<reserved>"
    assert from_gguf(metadata).get_vocab()["<reserved>"] == 400


def test_tokens_added_later_and_both_ends_survive(published_tokenizer: Builder) -> None:
    def put_around(spec: dict[str, Any]) -> None:
        bos, eos = ({"SpecialToken": {"id": f"<|im_{end}|>", "type_id": 0}} for end in ("start", "end"))
        body = {"Sequence": {"id": "A", "type_id": 0}}
        other = {"Sequence": {"id": "B", "type_id": 1}}
        named = {f"<|im_{end}|>": {"id": f"<|im_{end}|>", "ids": [number], "tokens": [f"<|im_{end}|>"]}
                 for end, number in (("start", 1), ("end", 2))}  # fmt: skip
        spec["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [bos, body, eos],
            "pair": [bos, body, eos, bos, other, eos],
            "special_tokens": named,
        }

    original = altered(published_tokenizer("llama-bpe"), put_around)
    original.add_tokens([AddedToken("<tool>", normalized=False)])
    metadata = to_gguf(original, ROWS)
    assert metadata["tokenizer.ggml.add_eos_token"] is True
    again = from_gguf(metadata)
    for text in ("", "call <tool> now", "<|im_end|>"):
        assert ids_of(again, text) == ids_of(original, text)
        assert again(text, "b")["input_ids"] == original(text, "b")["input_ids"]
    assert again.convert_tokens_to_ids("<tool>") == 400
    assert "<tool>" not in again.all_special_tokens


def test_a_file_that_does_not_say_begins_a_text_as_llama_cpp_does(published_tokenizer: Builder) -> None:
    for splitting, first in (("llama-bpe", 1), ("gpt-2", None)):
        metadata = to_gguf(published_tokenizer(splitting), 400)
        del metadata["tokenizer.ggml.add_bos_token"]
        assert (ids_of(from_gguf(metadata), "a")[0] == 1) is (first == 1)


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: spec["pre_tokenizer"].update(add_prefix_space=True),
        lambda spec: spec["pre_tokenizer"].update(use_regex=False),
        lambda spec: spec.update(pre_tokenizer=None),
        lambda spec: spec.update(pre_tokenizer={"type": "Whitespace"}),
        lambda spec: spec.update(normalizer={"type": "NFC"}),
        lambda spec: spec.update(normalizer={"type": "Lowercase"}),
        lambda spec: spec["model"].update(ignore_merges=True),
        lambda spec: spec["model"].update(end_of_word_suffix="</w>"),
        lambda spec: spec.update(
            pre_tokenizer={
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "Split", "pattern": {"String": "a"}, "behavior": "Isolated", "invert": False},
                    spec["pre_tokenizer"],
                ],
            }
        ),
    ],
)
def test_a_splitting_without_a_name_is_refused(
    published_tokenizer: Builder, change: Callable[[dict[str, Any]], None]
) -> None:
    with pytest.raises(Unsupported, match="no known name in GGUF"):
        to_gguf(altered(published_tokenizer("gpt-2"), change), ROWS)


def test_digits_before_another_pattern_have_no_name(published_tokenizer: Builder) -> None:
    def swap(spec: dict[str, Any]) -> None:
        spec["pre_tokenizer"]["pretokenizers"][0]["behavior"] = "Removed"

    with pytest.raises(Unsupported, match="no known name in GGUF"):
        to_gguf(altered(published_tokenizer("llama-bpe"), swap), ROWS)


def test_other_tokens_around_a_text_are_refused(published_tokenizer: Builder) -> None:
    tokenizer = published_tokenizer("smollm", begins=True)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, bos_token="<|endoftext|>")
    with pytest.raises(Unsupported, match="around a text"):
        to_gguf(tokenizer, ROWS)


def test_a_token_without_a_row_is_refused(published_tokenizer: Builder) -> None:
    with pytest.raises(InvalidInput, match="token 399 has no row in an embedding of 399"):
        to_gguf(published_tokenizer("smollm", 400), 399)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": "bert"}, Unsupported, "'bert', splitting 'smollm'"),
        ({"pre": "deepseek-coder"}, Unsupported, "'deepseek-coder'"),
        ({"pre": None}, Unsupported, "splitting None"),
        ({"tokens": None}, DamagedFile, "no list of tokenizer tokens"),
        ({"tokens": [1, 2]}, DamagedFile, "no list of tokenizer tokens"),
        ({"tokens": []}, DamagedFile, "no list of tokenizer tokens"),
        ({"merges": "a b"}, DamagedFile, "no list of tokenizer merges"),
        ({"merges": ["ab"]}, DamagedFile, "merges 'ab'"),
        ({"merges": ["Ġ nowhere"]}, DamagedFile, "merges 'Ġ nowhere'"),
        ({"token_type": [1]}, DamagedFile, "one type to each"),
        ({"token_type": 7}, DamagedFile, "one type to each"),
    ],
)
def test_metadata_that_contradict_each_other_are_refused(
    published_tokenizer: Builder, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    metadata = to_gguf(published_tokenizer("smollm"), 400)
    for key, value in changes.items():
        metadata[f"tokenizer.ggml.{key}"] = value
        if value is None:
            del metadata[f"tokenizer.ggml.{key}"]
    with pytest.raises(error, match=message):
        from_gguf(metadata)


def test_a_token_named_twice_is_refused(published_tokenizer: Builder) -> None:
    metadata = to_gguf(published_tokenizer("smollm"), 400)
    metadata["tokenizer.ggml.tokens"][399] = metadata["tokenizer.ggml.tokens"][398]
    with pytest.raises(DamagedFile, match="names a token twice"):
        from_gguf(metadata)


@pytest.mark.parametrize("odd", [400, -1, 2**32 - 1, "1", 1.0, True, [1]])
def test_a_special_id_that_is_no_token_is_left_out(published_tokenizer: Builder, odd: Any) -> None:
    metadata = to_gguf(published_tokenizer("smollm"), 400) | {"tokenizer.ggml.padding_token_id": odd}
    assert from_gguf(metadata).pad_token is None
    assert special_ids(metadata) == {"bos": 1, "eos": 2, "unknown": 0}


def test_types_are_optional(published_tokenizer: Builder) -> None:
    metadata = to_gguf(published_tokenizer("gpt-2"), 400)
    metadata["tokenizer.ggml.token_type"] = [NORMAL] * 400
    del metadata["tokenizer.ggml.token_type"]
    assert from_gguf(metadata).decode([*range(300, 310)])


def test_a_template_among_several_is_the_default(published_tokenizer: Builder) -> None:
    tokenizer = published_tokenizer("gpt-2")
    tokenizer.chat_template = {"default": "plain", "tools": "other"}
    assert to_gguf(tokenizer, 400)["tokenizer.chat_template"] == "plain"
