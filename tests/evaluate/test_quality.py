"""Figures of finished files against a naive second implementation on transformers' own logits."""

import dataclasses
import json
import math
from functools import cache
from pathlib import Path

import numpy
import pytest
import torch

from smidgen.data.rows import Corpus, Row
from smidgen.errors import Interrupted, InvalidInput, Unsupported
from smidgen.evaluate import tally, windows
from smidgen.evaluate.quality import PROBABILITIES, Quality, compare_files, compare_models, measure_file
from smidgen.evaluate.windows import Text
from smidgen.inference.scoring import PromptScorer
from smidgen.models.model import Model

LENGTH = 128
COUNT = 3


def near(name: str, value: object) -> object:
    """Within what llama.cpp's half-precision cache and kernels change; one token may change its first choice."""
    return pytest.approx(value, rel=1e-2, abs=1.5 / (COUNT * (LENGTH // 2 - 1)) if name == "same_top" else 1e-4)


def log_probabilities(model: Model, ids: list[int]) -> numpy.ndarray:
    with torch.no_grad():
        logits = model.module(input_ids=torch.tensor([ids])).logits[0]
    return torch.log_softmax(logits.double(), -1).numpy()


def naive(source: Model, result: Model, text: Text, kept: tuple[int, ...]) -> dict[str, float]:
    """The figures by their definitions, one token after the other."""
    ids = result.tokenizer.encode(text.content, add_special_tokens=False)
    kl, same, losses, dropped = [], [], [], []
    for number in range(COUNT):
        window = ids[number * LENGTH : (number + 1) * LENGTH]
        p_all, q = log_probabilities(source, [kept[token] for token in window]), log_probabilities(result, window)
        for at in range(LENGTH // 2, LENGTH - 1):
            mass = numpy.exp(p_all[at, list(kept)]).sum()
            p = p_all[at, list(kept)] - math.log(mass)
            kl.append((numpy.exp(p) * (p - q[at])).sum())
            same.append(p_all[at].argmax() == kept[q[at].argmax()])
            losses.append((-p[window[at + 1]], -q[at, window[at + 1]]))
            dropped.append(1 - mass)
    one, two = numpy.array(losses).T
    return {
        "tokens": len(kl),
        "kl_mean": numpy.mean(kl),
        "kl_mean_se": numpy.std(kl, ddof=1) / len(kl) ** 0.5,
        "kl_median": numpy.median(kl),
        "kl_p99": numpy.quantile(kl, 0.99),
        "kl_p999": numpy.quantile(kl, 0.999),
        "same_top": numpy.mean(same),
        "ppl_source": numpy.exp(one.mean()),
        "ppl_result": numpy.exp(two.mean()),
        "ppl_ratio": numpy.exp((two - one).mean()),
        "ppl_ratio_se": numpy.exp((two - one).mean()) * numpy.std(two - one, ddof=1) / len(kl) ** 0.5,
        "dropped_mass": numpy.mean(dropped),
    }


@cache
def measured(source, result, text: Text) -> Quality:
    return measure(source, result, text)


def measure(source, result, text: Text, **changes) -> Quality:
    kept = result.model.lineage.kept_tokens
    settings = {"windows": COUNT, "length": LENGTH, "kept_tokens": kept, "threads": 1} | changes
    return compare_files(source.path, result.path, text, **settings)


@pytest.mark.parametrize("which", ["noisy", "pruned"])
def test_files_are_measured_as_the_definitions_say(source, text, which, request):
    result = request.getfixturevalue(which)
    kept = result.model.lineage.kept_tokens or tuple(range(768))
    found = measured(source, result, text).to_dict()
    for name, value in naive(source.model, result.model, text, kept).items():
        assert found[name] == near(name, value), name
    assert 0.01 < found["kl_mean"] < 1 and 0.2 < found["same_top"] < 0.95
    assert (found["dropped_mass"] > 0.01) == (which == "pruned")


@pytest.mark.parametrize("which", ["noisy", "pruned"])
def test_models_in_memory_give_the_figures_of_their_files(source, text, which, request):
    result = request.getfixturevalue(which)
    ids = result.model.tokenizer.encode(text.content, add_special_tokens=False)[: COUNT * LENGTH]
    kept = result.model.lineage.kept_tokens
    read = torch.tensor(ids).view(COUNT, LENGTH)
    found = compare_models(source.model, result.model, read, name="argparse", kept_tokens=kept).to_dict()
    expected = measured(source, result, text).to_dict()
    own = {"text", "sha256", "bits_per_byte_source"} if kept else {"text", "sha256"}
    for name in set(expected) - own:
        assert found[name] == near(name, expected[name]), name


def test_bits_per_byte_are_those_of_each_model_s_own_tokens(source, noisy, pruned, text):
    same, fewer = measured(source, noisy, text), measured(source, pruned, text)
    alone = measure_file(pruned.path, text, windows=COUNT, length=LENGTH, threads=1)
    assert fewer.bits_per_byte == pytest.approx(alone.bits_per_byte, rel=1e-5)
    assert same.bits_per_byte == pytest.approx(same.bits_per_byte_source * math.log(same.ppl_result, same.ppl_source))
    assert same.bits_per_byte == pytest.approx(naive_bits_per_byte(noisy, text), rel=1e-3)
    assert fewer.bits_per_byte_source == pytest.approx(own_bits_per_byte(source, pruned, text), rel=1e-3)


def naive_bits_per_byte(result, text: Text) -> float:
    """Score the second half of each window and count the bytes of its text."""
    ids, total, size = result.model.tokenizer.encode(text.content, add_special_tokens=False), 0.0, 0
    for number in range(COUNT):
        window = ids[number * LENGTH : (number + 1) * LENGTH]
        table = log_probabilities(result.model, window)
        scored = window[LENGTH // 2 + 1 :]
        total -= sum(table[LENGTH // 2 + row, token] for row, token in enumerate(scored))
        size += len(result.model.tokenizer.decode(scored).encode())
    return total / math.log(2) / size


def own_bits_per_byte(source, pruned, text: Text) -> float:
    """Score the source on its own tokens that lie inside each window's second half, by their offsets."""
    encoded = source.model.tokenizer(text.content, add_special_tokens=False, return_offsets_mapping=True)
    cut = pruned.model.tokenizer(text.content, add_special_tokens=False, return_offsets_mapping=True)
    total, size = 0.0, 0
    for number in range(COUNT):
        places = cut["offset_mapping"][number * LENGTH : (number + 1) * LENGTH]
        inside = [at for at, (a, b) in enumerate(encoded["offset_mapping"]) if a >= places[0][0] and b <= places[-1][1]]
        table = log_probabilities(source.model, [encoded["input_ids"][at] for at in inside])
        for row, at in enumerate(inside):
            begin, end = encoded["offset_mapping"][at]
            if row and begin >= places[LENGTH // 2][1]:
                total -= table[row - 1, encoded["input_ids"][at]]
                size += len(text.content[begin:end].encode())
    return total / math.log(2) / size


def test_a_file_against_itself_lost_nothing(source, text):
    found = measure(source, source, text, windows=1)
    assert (found.kl_mean, found.kl_p999, found.same_top, found.ppl_ratio, found.ppl_ratio_se) == (0, 0, 1, 1, 0)
    assert found.tokens == LENGTH // 2 - 1 and found.windows == 1


def test_the_dictionary_is_plain_and_says_what_was_read(source, noisy, text):
    found = json.loads(json.dumps(measured(source, noisy, text).to_dict()))
    assert set(found) == {field.name for field in dataclasses.fields(Quality)}
    assert (found["text"], found["length"], found["stride"], found["windows"]) == ("argparse", LENGTH, LENGTH, COUNT)
    assert found["sha256"] == text.sha256
    assert len(found["kl_quantiles"]) == len(PROBABILITIES) == 21
    assert found["kl_quantiles"] == sorted(found["kl_quantiles"])
    assert found["kl_quantiles"][10] == found["kl_median"]


def test_windows_follow_llama_cpp_where_the_model_wants_a_begin_of_text_token(noisy, text):
    with PromptScorer(noisy.path, threads=1, context=16) as scorer:
        pieces = scorer.pieces()
        ids = scorer.tokenize(text.content[:400])
        plain = windows.cut(scorer, text, pieces, length=16, count=2)
        scorer.bos_token = 1
        begun = windows.cut(scorer, text, pieces, length=16, count=2)
    assert [window.ids for window in plain] == [ids[:16], ids[16:32]]
    assert [window.ids for window in begun] == [[1, *ids[:15]], [1, *ids[16:31]]]
    assert [window.first for window in plain + begun] == [8, 8, 8, 8]
    joined = b"".join(pieces[token] for token in ids)
    begin, scored, end = plain[1].span
    assert joined[begin:end] == b"".join(pieces[token] for token in ids[16:32])
    assert joined[scored:end] == b"".join(pieces[token] for token in ids[25:32])


def test_as_much_is_read_of_a_text_as_the_windows_need(noisy):
    """Long runs of spaces become few tokens, so the first guess of the text's length is too short."""
    text = Text("spaces", (" " * 3000 + "x\n") * 6)
    with PromptScorer(noisy.path, threads=1, context=16) as scorer:
        whole = scorer.tokenize(text.content)
        cut = windows.cut(scorer, text, scorer.pieces(), length=16, count=3)
    assert [token for window in cut for token in window.ids] == whole[:48]


def test_too_little_text_and_foreign_tokens_are_refused(source, pruned, text):
    with pytest.raises(InvalidInput, match=r"short has 3 tokens; one window needs 128"):
        measure(source, source, Text("short", "if not"))
    with pytest.raises(InvalidInput, match="at least 4 tokens"):
        measure(source, source, text, length=3)
    with pytest.raises(Unsupported, match=r"do not share their tokens \(768 and 512\)"):
        measure(source, pruned, text, kept_tokens=None)
    wrong = (*pruned.model.lineage.kept_tokens[1:], 767)
    with pytest.raises(Unsupported):
        measure(source, pruned, text, kept_tokens=wrong)


def test_progress_is_told_and_cancels(source, text):
    seen = []

    def stop(event):
        seen.append(event)
        if event.done == 1:
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        measure(source, source, text, progress=stop)
    assert [(event.done, event.total, event.unit) for event in seen] == [(0, COUNT, "windows"), (1, COUNT, "windows")]


def test_a_corpus_becomes_its_documents_with_empty_lines_between():
    text = Text.of(Corpus("two", (Row(text="One.\n"), Row(prompt="Q", completion="A"))))
    assert (text.name, text.content) == ("two", "One.\n\nQ\nA\n")


def test_chunks_do_not_change_the_tally():
    generator = torch.Generator().manual_seed(0)
    one, two = torch.randn(150, 40, generator=generator), torch.randn(150, 30, generator=generator)
    targets, kept = torch.randint(0, 30, (150,), generator=generator), tuple(range(5, 35))
    whole = tally.tally([(one, two, targets)], kept)
    parts = tally.tally([(one[a:b], two[a:b], targets[a:b]) for a, b in ((0, 7), (7, 100), (100, 150))], kept)
    for field in dataclasses.fields(whole):
        assert numpy.allclose(getattr(whole, field.name), getattr(parts, field.name), atol=1e-6)


def test_nothing_to_compare_is_an_error():
    with pytest.raises(InvalidInput, match="no token"):
        tally.tally([])


@pytest.mark.index
def test_the_published_model_alone(smollm2_gguf: Path):
    prose = Text("prose", "The cat sat on the mat, and the dog lay by the fire. " * 10)
    found = measure_file(smollm2_gguf, prose, windows=1, length=64, threads=1)
    assert found.tokens == 31 and 1 < found.perplexity < 3 and 0 < found.bits_per_byte < 1
    assert found.perplexity_se > 0 and found.to_dict()["text"] == "prose"
