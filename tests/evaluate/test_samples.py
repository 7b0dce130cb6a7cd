"""Sample answers of real files."""

from dataclasses import replace
from pathlib import Path

import pytest

from smidgen.evaluate.samples import PROMPTS, answers
from smidgen.export import gguf


@pytest.mark.index
def test_a_chat_model_answers_and_answers_the_same_again(smollm2_gguf: Path):
    seen = []
    first = answers(smollm2_gguf, PROMPTS[3:4], tokens=32, threads=1, progress=seen.append)
    assert "= 7 apples" in first[0]
    assert first == answers(smollm2_gguf, PROMPTS[3:4], tokens=32, threads=1)
    assert [event.done for event in seen] == [0, 1]


def test_a_model_without_a_chat_template_continues_the_text(source, tmp_path):
    model = source.model.clone()
    tokenizer = type(model.tokenizer)(tokenizer_object=model.tokenizer.backend_tokenizer, eos_token="<|im_end|>")
    path = tmp_path / "base.gguf"
    gguf.write(replace(model, tokenizer=tokenizer), path)
    with_template, without = answers(source.path, ["def main("], tokens=8), answers(path, ["def main("], tokens=8)
    assert with_template != without
