import runpy
from collections import Counter
from pathlib import Path

import pytest
import torch

from smidgen.data.rows import Corpus, Row
from smidgen.data.writing import ModelWriter, Writing, prompt_of, read_example, show_example, write_examples
from smidgen.errors import InvalidInput

build_model = runpy.run_path(str(Path(__file__).parents[1] / "shrink" / "conftest.py"))["build_model"]
SEEDS = Corpus(
    "messages",
    tuple(Row(f"message number {number} of many", label="ham" if number % 2 else "spam") for number in range(8)),
)
TASK = "Tell spam from ham."


class Scripted:
    """Writes what it is told and judges by length; remembers its prompts."""

    def __init__(self, texts):
        self.texts, self.prompts, self.judged = texts, [], []

    def write(self, prompt, seed):
        self.prompts.append(prompt)
        return self.texts[seed % len(self.texts)]

    def score(self, prompt, text):
        self.judged.append((prompt, text))
        return float(len(text))


def test_usable_examples_are_cleaned_and_the_best_are_kept():
    texts = [
        "Text: win a free holiday\nLabel: spam\n\n### Example 5\nText: x",
        "Text: lunch at noon today?\nLabel: ham",
        "Text: lunch at noon, today\nLabel: ham",
        "Text: without any label",
        "Text: of a label unheard of\nLabel: eggs",
        "Text: Message number 1 of many!\nLabel: ham",
        "Text: a much longer message than all of the others that came\nLabel: ham",
    ]
    writer, events = Scripted(texts), []
    found, sheet = write_examples(
        SEEDS, Writing(TASK, count=7, keep=0.67), writer, progress=lambda event: events.append(event.note)
    )
    assert [row.text for row in found.rows] == [
        "a much longer message than all of the others that came",
        "lunch at noon today?",
    ]
    assert sheet.removed.exact == 2 and "5 usable" in events and len(events) == 7 + len(writer.judged)
    assert len(writer.judged) == 3 and all(row.origin.startswith("written") for row in found.rows)


def test_every_prompt_shows_other_seeds_and_the_judge_sees_none_of_them():
    writer = Scripted([f"Text: entirely new words {number} here\nLabel: ham" for number in range(6)])
    write_examples(SEEDS, Writing(TASK, count=6, keep=1.0), writer)
    assert len(set(writer.prompts)) == 6
    for prompt in writer.prompts:
        assert prompt.startswith(TASK) and prompt.count("### Example") == 4
    shown = {text: prompt for text, prompt in zip(writer.texts, writer.prompts, strict=True)}
    for prompt, text in writer.judged:
        seeds = [line for line in prompt.splitlines() if line.startswith("Text:")]
        assert len(seeds) == 3 and not any(line in shown[text] for line in seeds)


def test_what_is_to_be_measured_on_does_not_come_back():
    secret = " ".join(f"word{number}" for number in range(40))
    writer = Scripted([f"Text: {secret}\nLabel: ham", "Text: something else altogether\nLabel: ham"])
    exam = Corpus("exam", (Row(secret),))
    found, sheet = write_examples(SEEDS, Writing(TASK, count=2, keep=1.0), writer, held_out=exam)
    assert [row.text for row in found.rows] == ["something else altogether"] and sheet.removed.leaked == 1


def test_examples_survive_showing_and_reading():
    for row in (Row("a\nb: c", label="x"), Row("text alone"), Row(prompt="2 + 2", completion="4")):
        assert read_example(show_example(row), row) == row
    assert read_example("Input: 2\nText: 4", Row(prompt="a", completion="b")) is None
    assert read_example("Input: 2\nOutput: ", Row(prompt="a", completion="b")) is None


def test_a_model_writes_the_same_again_and_scores_by_its_own_probabilities():
    model = build_model()
    writer = ModelWriter(model, longest=12)
    prompt = prompt_of(TASK, SEEDS.rows[:2])
    assert writer.write(prompt, 3) == writer.write(prompt, 3) != writer.write(prompt, 4)
    ids = [torch.tensor([model.tokenizer(each)["input_ids"]]) for each in (prompt, prompt + "argument")]
    with torch.no_grad():
        scores = model.module(input_ids=ids[1]).logits[0, :-1].log_softmax(-1)
    given = ids[0].shape[1]
    expected = [float(scores[place - 1, ids[1][0, place]]) for place in range(given, ids[1].shape[1])]
    assert writer.score(prompt, "argument") == pytest.approx(sum(expected) / len(expected), rel=1e-4)


def test_what_cannot_be_is_said():
    with pytest.raises(InvalidInput, match="task"):
        Writing(" ")
    with pytest.raises(InvalidInput, match="prompts"):
        Writing(TASK, keep=0)
    with pytest.raises(InvalidInput, match="more than 8"):
        write_examples(SEEDS, Writing(TASK, shown=8), Scripted(["x"]))
    with pytest.raises(InvalidInput, match="shape"):
        write_examples(SEEDS, Writing(TASK, count=2), Scripted(["nonsense"]))
    copies = Scripted(["Text: message number 1 of many\nLabel: ham"])
    with pytest.raises(InvalidInput, match="repeats"):
        write_examples(SEEDS, Writing(TASK, count=2), copies)
    assert Counter(row.label for row in SEEDS.rows) == {"ham": 4, "spam": 4}
