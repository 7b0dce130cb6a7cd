import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from smidgen.data.chat import Rendered
from smidgen.data.packing import SHARED, pack, pack_documents, token_use, windows
from smidgen.data.rows import Corpus, Message, Row
from smidgen.errors import InvalidInput

TEXTS = st.lists(st.text("abc fox\n", min_size=1, max_size=60), min_size=1, max_size=12)


def corpus_of(*texts: str) -> Corpus:
    return Corpus("sample", tuple(Row(text) for text in texts))


def test_windows_of_one_document_are_its_consecutive_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    text = "the quick brown fox jumps over the lazy dog. " * 20
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    cut = windows(corpus_of(text), tokenizer, length=16)
    assert cut.dtype == torch.long
    assert cut.flatten().tolist() == ids[: len(ids) // 16 * 16]


@given(texts=TEXTS, length=st.integers(1, 8), count=st.none() | st.integers(1, 5))
def test_windows_cut_the_joined_stream(
    tokenizer: PreTrainedTokenizerFast, texts: list[str], length: int, count: int | None
) -> None:
    stream: list[int] = []
    for number, text in enumerate(texts):
        stream += [tokenizer.eos_token_id] * (number > 0) + tokenizer(text)["input_ids"]
    expected = min(len(stream) // length, count or len(stream))
    if expected == 0:
        with pytest.raises(InvalidInput, match=f"has {len(stream)} tokens; one window needs {length}"):
            windows(corpus_of(*texts), tokenizer, length=length, count=count)
        return
    cut = windows(corpus_of(*texts), tokenizer, length=length, count=count)
    assert cut.shape == (expected, length)
    assert cut.flatten().tolist() == stream[: expected * length]


def test_windows_begin_as_llama_cpp_begins_them(beginning_tokenizer: PreTrainedTokenizerFast) -> None:
    text = "a list is a sequence of items. " * 10
    plain = beginning_tokenizer(text)["input_ids"]
    cut = windows(corpus_of(text), beginning_tokenizer, length=8)
    assert cut[:, 0].tolist() == [beginning_tokenizer.bos_token_id] * len(cut)
    assert cut[1, 1:].tolist() == plain[9:16]


def test_windows_shuffle_documents_only_with_a_seed(tokenizer: PreTrainedTokenizerFast) -> None:
    corpus = corpus_of(*(f"{letter} fox" * 3 for letter in "abcdefghij"))
    ordered = windows(corpus, tokenizer, length=8)
    assert torch.equal(ordered, windows(corpus, tokenizer, length=8))
    shuffled = windows(corpus, tokenizer, length=8, seed=1)
    assert torch.equal(shuffled, windows(corpus, tokenizer, length=8, seed=1))
    assert not torch.equal(ordered, shuffled)


@pytest.mark.parametrize(("length", "count"), [(0, None), (4, 0), (-1, 3)])
def test_windows_refuse_impossible_sizes(tokenizer: PreTrainedTokenizerFast, length: int, count: int | None) -> None:
    with pytest.raises(InvalidInput, match="at least 1"):
        windows(corpus_of("fox"), tokenizer, length=length, count=count)


@given(texts=TEXTS, length=st.integers(2, 16))
def test_packing_loses_nothing_and_never_crosses(
    tokenizer: PreTrainedTokenizerFast, texts: list[str], length: int
) -> None:
    packed = pack(corpus_of(*texts), tokenizer, length=length)
    found = []
    for ids, supervised, segments, positions in zip(
        packed.ids, packed.supervised, packed.segments, packed.positions, strict=True
    ):
        assert not supervised[segments == -1].any()
        for segment in range(int(segments.max()) + 1):
            inside = segments == segment
            assert positions[inside].tolist() == list(range(int(inside.sum())))
            assert not supervised[inside][0] and supervised[inside][1:].all()
            found.append(tuple(ids[inside].tolist()))
    expected = []
    for text in texts:
        document = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]
        expected += [tuple(document[at : at + length]) for at in range(0, len(document), length)]
    assert sorted(found) == sorted(piece for piece in expected if len(piece) > 1)


def test_packing_fills_rows(tokenizer: PreTrainedTokenizerFast) -> None:
    packed = pack(corpus_of(*["fox"] * 64), tokenizer, length=32)
    document = len(tokenizer("fox")["input_ids"]) + 1
    assert len(packed.ids) == -(-64 // (32 // document))


def test_packing_supervises_only_answers_when_asked(chat_tokenizer: PreTrainedTokenizerFast) -> None:
    row = Row(messages=(Message("user", "the quick fox"), Message("assistant", "a list")))
    packed = pack(Corpus("chat", (row,)), chat_tokenizer, length=64, supervised_only=True)
    assert chat_tokenizer.decode(packed.ids[packed.supervised]) == "a list<|im_end|>"
    everything = pack(Corpus("chat", (row,)), chat_tokenizer, length=64)
    assert int(everything.supervised.sum()) == int((everything.segments == 0).sum()) - 1


def test_packing_without_any_answer_says_so(chat_tokenizer: PreTrainedTokenizerFast) -> None:
    silent = Corpus("silent", (Row(messages=(Message("user", "the quick fox"),)),))
    with pytest.raises(InvalidInput, match="No row of silent has an assistant's answer"):
        pack(silent, chat_tokenizer, length=64, supervised_only=True)
    with pytest.raises(InvalidInput, match="at least 2 tokens"):
        pack(silent, chat_tokenizer, length=1)


def test_token_use_counts_every_token(tokenizer: PreTrainedTokenizerFast) -> None:
    counts = token_use(corpus_of("fox fox", "dog"), tokenizer)
    ids = tokenizer("fox fox")["input_ids"] + tokenizer("dog")["input_ids"]
    assert counts.shape == (len(tokenizer),)
    assert counts.tolist() == [ids.count(token) for token in range(len(tokenizer))]


INSTRUCTION = list(range(50, 62))


@given(
    sizes=st.lists(st.tuples(st.integers(2, 12), st.booleans()), min_size=1, max_size=14),
    length=st.integers(26, 60),
)
def test_a_shared_beginning_stands_once_and_nothing_is_lost(
    tokenizer: PreTrainedTokenizerFast, sizes: list[tuple[int, bool]], length: int
) -> None:
    documents = []
    for number, (size, instructed) in enumerate(sizes):
        ids = [*(INSTRUCTION if instructed else ()), *(100 + (number * 7 + place) % 30 for place in range(size))]
        documents.append(Rendered(ids, [False] * (len(ids) - 1) + [True]))
    packed = pack_documents(documents, tokenizer, length=length, share=True)
    alone = pack_documents(documents, tokenizer, length=length)
    assert len(packed.ids) <= len(alone.ids) and int(packed.supervised.sum()) == len(documents)
    assert bool((packed.segments == SHARED).any()) == (len(packed.ids) < len(alone.ids))
    found = []
    for row in range(len(packed.ids)):
        segments, begin = packed.segments[row], packed.segments[row] == SHARED
        for segment in range(int(segments.max()) + 1):
            inside = begin | (segments == segment)
            assert packed.positions[row][inside].tolist() == list(range(int(inside.sum())))
            assert not packed.supervised[row][segments == segment][0]
            found.append((packed.ids[row][inside].tolist(), packed.supervised[row][inside].tolist()))
        assert not packed.supervised[row][segments < 0].any()
    assert sorted(found) == sorted((each.ids, each.supervised) for each in documents)


def test_what_few_documents_lack_is_shared_by_the_others(tokenizer: PreTrainedTokenizerFast) -> None:
    behind = [[*INSTRUCTION, 100 + number, 7] for number in range(9)]
    documents = [Rendered(ids, [False] * (len(ids) - 1) + [True]) for ids in [*behind, [200, 201, 7]]]
    packed = pack_documents(documents, tokenizer, length=30, share=True)
    shared = (packed.segments == SHARED).sum(1).tolist()
    assert shared == [12, 0] and len(pack_documents(documents, tokenizer, length=30).ids) == 5
