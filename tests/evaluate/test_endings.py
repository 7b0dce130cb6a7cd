"""Endings of prompts: what is read once for several must be what is read for each alone."""

import numpy
import pytest

from smidgen.errors import InvalidInput
from smidgen.inference.scoring import PromptScorer, Subject


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
