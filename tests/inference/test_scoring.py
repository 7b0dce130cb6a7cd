"""The real engine on a real file: what it scores, what it refuses, and that its interface is as expected."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest

from smidgen.errors import DamagedFile, EngineFailed, InvalidInput, ReferenceNotFound
from smidgen.inference import llama_library
from smidgen.inference.scoring import PromptScorer

pytestmark = pytest.mark.index
TEXT = "The cat sat on the mat, and the dog lay by the fire. A naïve café: 日本語 ☃ 😀."


@pytest.fixture(scope="module")
def scorer(smollm2_gguf: Path) -> Iterator[PromptScorer]:
    with PromptScorer(smollm2_gguf, threads=2, context=600) as opened:
        yield opened


def test_tokens_agree_with_the_text_and_with_each_other(scorer: PromptScorer) -> None:
    ids = scorer.tokenize(TEXT)
    pieces = scorer.pieces()
    assert scorer.vocabulary_size == len(pieces) == 49152
    assert b"".join(pieces[token] for token in ids).decode() == TEXT
    assert scorer.detokenize(ids) == TEXT


def test_special_tokens_are_read_only_when_asked(scorer: PromptScorer) -> None:
    assert len(scorer.tokenize("<|im_start|>")) > 1
    assert scorer.tokenize("<|im_start|>", special=True) == [1]
    assert scorer.pieces()[1] == b"<|im_start|>"


def test_logits_are_bit_equal_when_asked_twice_and_do_not_see_the_future(scorer: PromptScorer) -> None:
    ids = scorer.tokenize(TEXT)
    first = scorer.logits(ids)
    scorer.logits(list(reversed(ids)))
    assert numpy.array_equal(first, scorer.logits(ids))
    changed = [*ids[:-1], ids[0]]
    assert numpy.allclose(first[:-1], scorer.logits(changed)[:-1], atol=1e-4)
    assert not numpy.allclose(first[-1], scorer.logits(changed)[-1], atol=1e-2)


def test_the_likeliest_tokens_are_those_of_the_logits(scorer: PromptScorer) -> None:
    ids = scorer.tokenize(TEXT)
    found = scorer.likeliest_tokens(ids, count=3)
    logits = scorer.logits(ids).astype(numpy.float64)
    expected = numpy.sort(logits - numpy.log(numpy.exp(logits).sum(axis=1, keepdims=True)), axis=1)[:, :-4:-1]
    assert found.ids.shape == found.log_probabilities.shape == (len(ids), 3)
    assert numpy.array_equal(found.ids[:, 0], logits.argmax(axis=1))
    assert numpy.allclose(found.log_probabilities, expected, atol=1e-5)
    assert numpy.array_equal(found.chosen, scorer.next_token_logprobs(ids))
    for count in (0, scorer.vocabulary_size + 1):
        with pytest.raises(InvalidInput, match="cannot be told"):
            scorer.likeliest_tokens(ids, count=count)


def test_log_probabilities_are_those_of_the_logits(scorer: PromptScorer) -> None:
    ids = scorer.tokenize(TEXT)
    logits = scorer.logits(ids).astype(numpy.float64)
    normalised = logits - numpy.log(numpy.exp(logits).sum(axis=1, keepdims=True))
    expected = normalised[numpy.arange(len(ids) - 1), ids[1:]]
    found = scorer.next_token_logprobs(ids)
    assert found.shape == (len(ids) - 1,)
    assert numpy.allclose(found, expected, atol=1e-4)
    assert -8 < found.mean() < -1
    assert numpy.array_equal(scorer.next_token_logprobs(ids, start=10), found[10:])


def test_a_longer_text_than_one_chunk_keeps_what_was_read_before(scorer: PromptScorer) -> None:
    ids = (scorer.tokenize(TEXT) * 30)[:520]
    late = scorer.logits(ids, start=505)
    assert late.shape == (15, scorer.vocabulary_size)
    foreseen = (late[:-1].argmax(axis=1) == ids[506:]).mean()
    assert foreseen > 0.9, "a text repeated many times is foreseen only if the beginning is remembered"


@pytest.mark.parametrize("ids", [[], [0] * 601, [49152], [-1]])
def test_tokens_that_cannot_be_scored(scorer: PromptScorer, ids: list[int]) -> None:
    with pytest.raises(InvalidInput):
        scorer.logits(ids)


def test_positions_and_counts_out_of_range(scorer: PromptScorer) -> None:
    with pytest.raises(InvalidInput, match="leaves nothing"):
        scorer.logits([1, 2], start=2)
    with pytest.raises(InvalidInput, match="leaves nothing"):
        scorer.next_token_logprobs([1])
    with pytest.raises(InvalidInput, match="larger context"):
        scorer.time_prefill(601)
    with pytest.raises(InvalidInput, match="larger context"):
        scorer.time_decode(8, depth=600)


def test_time_and_memory_are_measured(scorer: PromptScorer, smollm2_gguf: Path) -> None:
    assert scorer.load_seconds > 0
    assert scorer.time_prefill(16) > 0
    assert scorer.time_decode(2, depth=4) > 0
    assert smollm2_gguf.stat().st_size // 2 < scorer.peak_rss_bytes() < 4 << 30


def test_files_that_are_no_model(tmp_path: Path, smollm2_gguf: Path) -> None:
    with pytest.raises(ReferenceNotFound):
        PromptScorer(tmp_path / "missing.gguf")
    text = tmp_path / "text.gguf"
    text.write_text("hello")
    with pytest.raises(DamagedFile, match="not a GGUF"):
        PromptScorer(text)
    cut = tmp_path / "cut.gguf"
    with smollm2_gguf.open("rb") as whole:
        cut.write_bytes(whole.read(5_000_000))
    with pytest.raises(EngineFailed, match=r"cut\.gguf.*(bounds|load)"):
        PromptScorer(cut)


def test_a_child_that_dies_is_an_error_that_says_so(smollm2_gguf: Path) -> None:
    with PromptScorer(smollm2_gguf, threads=1) as scorer:
        os.kill(scorer._child.process.pid, signal.SIGTERM)
        with pytest.raises(EngineFailed, match=r"scoring smollm|scoring .*gguf"):
            for _ in range(3):
                scorer.tokenize("hello")
    with pytest.raises(EngineFailed, match="closed"):
        scorer.tokenize("hello")
    scorer.close()


def test_the_library_still_has_the_interface_that_is_assumed() -> None:
    """Fails when a new xllamacpp moves the parameters that are set by their place."""
    library = llama_library._open_library()
    parameters = library.llama_context_default_params()
    fields = ctypes.cast(ctypes.byref(parameters), ctypes.POINTER(ctypes.c_uint32))
    assert tuple(fields[:4]) == llama_library._DEFAULTS
    batch = library.llama_batch_init(8, 0, 1)
    assert batch.n_tokens == 0
    assert batch.token and batch.pos and batch.n_seq_id and batch.seq_id and batch.logits
    assert not batch.embd


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="structures return by a first argument here only"
)
@pytest.mark.parametrize("name", ["llama_context_default_params", "llama_model_default_params"])
def test_parameter_structures_fit_their_room(name: str) -> None:
    function = getattr(llama_library._open_library(), name)
    size = ctypes.sizeof(llama_library._Parameters)
    function.restype, function.argtypes = None, [ctypes.c_void_p]
    written = []
    for filler in (b"\x55", b"\xaa"):
        room = ctypes.create_string_buffer(filler * (2 * size), 2 * size)
        function(room)
        written.append(room.raw)
    length = max(index for index, (one, other) in enumerate(zip(*written, strict=True)) if one == other) + 1
    assert 16 < length <= size // 2
