"""Endings of prompts: what is read once for several must be what is read for each alone."""

import numpy
import pytest

from smidgen.errors import InvalidInput
from smidgen.inference.scoring import PromptScorer, Subject
from smidgen.inference.torch_library import TorchLibrary


@pytest.mark.parametrize("engine", ["llama_cpp", "torch"])
def test_endings_are_as_likely_as_when_each_is_read_alone(engine, source):
    shared = [1, *range(30, 50)]
    questions = [([60, 61, 62], [[70], [71, 72, 73], [74, 75]]), ([63], [[76, 77], [78]])]
    with PromptScorer(Subject(source.path, engine), threads=1, context=64) as scorer:
        found = scorer.endings(questions, shared=shared)
        assert found == scorer.endings(questions, shared=shared)
        for (prompt, endings), row in zip(questions, found, strict=True):
            before = [*shared, *prompt]
            for ending, each in zip(endings, row, strict=True):
                alone = scorer.next_token_logprobs([*before, *ending], start=len(before) - 1)
                assert each.log_probability == pytest.approx(float(alone.sum(dtype=numpy.float64)), abs=1e-3)
        best = int(scorer.logits(shared)[-1].argmax())
        ((first, second),) = scorer.endings([(shared, [[best], [(best + 1) % 700]])])
        assert first.greedy and not second.greedy
        with pytest.raises(InvalidInput, match="without tokens"):
            scorer.endings([([5], [[]])])
        with pytest.raises(InvalidInput, match="context of"):
            scorer.endings([([5] * 64, [[6, 7]])])


def test_a_question_has_the_same_bits_in_any_company(source):
    shared = [1, *range(30, 100)]
    asked = [([60 + number, 61], [[70, 71 + number], [75] * 9, [72, number + 1]]) for number in range(12)]
    with PromptScorer(Subject(source.path), threads=1, context=256) as scorer:
        together = scorer.endings(asked, shared=shared)
        assert together == [row for question in asked for row in scorer.endings([question], shared=shared)]
        assert together == scorer.endings(asked, shared=shared)
        scorer.logits([5, 6, 7])
        assert together[:5] == scorer.endings(asked[:5], shared=shared)


def test_torch_goes_back_in_what_it_has_read_and_knows_where_a_window_slides(source):
    from transformers import DynamicCache, MistralConfig

    library = TorchLibrary(source.path, 1)
    library.read([1, 30, 31, 32], 0, 4)
    assert library.rewind(2) and library.rewind(2), "otherwise a prompt is read anew for each of its endings"
    again = library.read([40], 2, 0)
    *_, fresh = library.read_all([1, 30, 40], 2)
    assert numpy.allclose(again, fresh, atol=1e-4) and library.shares(10**6)
    library._cache = DynamicCache(config=MistralConfig(sliding_window=8, num_hidden_layers=2))
    assert library.shares(8) and not library.shares(9)
