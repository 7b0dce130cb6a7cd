import json
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smidgen import tasks
from smidgen.data.records import Record
from smidgen.errors import InvalidInput
from smidgen.evaluate.labelled import label_figures
from smidgen.export import gguf
from smidgen.models.store import Store
from smidgen.recipe import asking
from smidgen.recipe.lessons import Lesson, read_lessons, with_labels
from smidgen.recipe.specialise import Training, divided, specialise
from smidgen.tasks import profile
from smidgen.tasks.jobs.classify import Classify
from smidgen.tasks.jobs.sentiment import Sentiment
from smidgen.tasks.jobs.summarize import Summarize

build_model = runpy.run_path(str(Path(__file__).parents[1] / "shrink" / "conftest.py"))["build_model"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("source") / "tiny.gguf"
    model = build_model()
    model.tokenizer.chat_template = (
        "{% for turn in messages %}<|im_start|>{{ turn.role }}\n{{ turn.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    gguf.write(model, path)
    return str(path)


def rows_of(path, count, **fields):
    path.write_text(
        "".join(json.dumps({key: make(number) for key, make in fields.items()}) + "\n" for number in range(count))
    )
    return path


@pytest.fixture
def labelled(tmp_path):
    """Texts whose label a word tells."""
    return rows_of(
        tmp_path / "rows.jsonl",
        60,
        text=lambda number: f"{'argument' if number % 2 else 'default'} {number}",
        label=lambda number: "yes" if number % 2 else "no",
    )


LEARNING = Training(epochs=12.0, learning_rate=3e-3, method="full", batch_size=4, upper=1.0, threads=1)


def test_a_task_gets_its_own_model_and_takes_it_from_then_on(source, labelled):
    task = Classify(labels=("no", "yes"), about="kind")
    made = specialise("classify", task, labelled, name="mine", training=replace(LEARNING, model=source))
    assert made.name == "mine:latest" and made.bytes > 0 and made.seconds > 0
    assert made.figures["rows"] == 12 and made.figures["majority"]["accuracy"] == 0.5
    assert made.figures["accuracy"] > 0.8 and made.figures["macro_f1"] > 0.8
    assert profile.default_model("classify", Classify()) == "mine:latest"
    result = tasks.classify("argument 41", threads=1)
    assert result["label"] == "yes" and result["calibrated"] and set(result["scores"]) == {"no", "yes"}
    kept = Store().resolve("mine").facts
    assert profile.of(kept).figures["accuracy"] == made.figures["accuracy"]
    assert not any((Store().root / "tasks").glob("*/checkpoints"))


class Stopped(Exception):
    pass


def test_a_stopped_run_goes_on_and_asks_nothing_twice(source, labelled, monkeypatch):
    monkeypatch.setattr(asking, "_TOGETHER", 4)
    task, how = Classify(labels=("no", "yes")), replace(LEARNING, model=source, epochs=3.0)
    stops = [("fine-tuning", 2), ("measuring", 8)]
    spent = []

    def watch(event):
        if stops and (event.stage, event.done) == stops[0]:
            raise Stopped

    def work():
        return specialise("classify", task, labelled, name="slow", training=how, progress=watch)

    while stops:
        with pytest.raises(Stopped):
            work()
        stops.pop(0)
        spent.append(float(next((Store().root / "tasks").glob("*/tuning.seconds")).read_text()))
    (notes,) = (Store().root / "tasks" / "scores").iterdir()
    assert len(notes.read_text().splitlines()) == 2 and 0 < spent[0] < spent[1]
    resumed = work()
    assert len(notes.read_text().splitlines()) == 3 and resumed.seconds >= spent[1]
    assert work().figures["confusion"] == resumed.figures["confusion"]
    assert len(notes.read_text().splitlines()) == 3 and resumed.figures["rows_trained_on"] == 48
    curves = json.loads(next((Store().root / "tasks").glob("*/curves.json")).read_text())
    assert curves["epochs"] == 3.0 and curves["learning_rate"] == 3e-3


def test_confidence_is_fitted_without_training(source, labelled):
    how = Training(model=source, train=False, threads=1)
    made = specialise("classify", Classify(), labelled, name="asked", training=how)
    stored = Store().resolve("asked")
    assert made.seconds == 0 and profile.of(stored.facts).calibration.texts == 12
    assert made.task.labels == ("no", "yes")
    assert profile.default_model("classify", Classify()) == "asked:latest"


def test_a_task_that_writes_is_taught_too(source, tmp_path):
    path = rows_of(
        tmp_path / "rows.jsonl", 24, text=lambda number: f"text {number}", output=lambda number: f"short {number}"
    )
    how = Training(model=source, epochs=1.0, threads=1)
    made = specialise("summarize", Summarize(words=5), path, name="short", training=how)
    assert made.figures["nats_per_character"] > 0 and "accuracy" not in made.figures
    assert profile.default_model("summarize", Summarize()) == "short:latest"


def test_a_model_is_made_to_fit(source, labelled, monkeypatch):
    """The main job gets the tuned model, the lessons and the budget, and what it makes is kept."""
    asked = {}

    def make(model, **order):
        asked.update(order, model=model)
        raise InvalidInput("enough")

    monkeypatch.setattr("smidgen.recipe.make.make", make)
    how = replace(LEARNING, model=source, epochs=0.5, fit="1MB", within="1m")
    with pytest.raises(InvalidInput, match="enough"):
        specialise("classify", Classify(), labelled, name="small", training=how)
    assert (Path(asked["model"]) / "config.json").is_file() and "base_model" in (
        Path(asked["model"]) / "README.md"
    ).read_text()
    rows = [json.loads(line) for line in Path(asked["data"]).read_text().splitlines()]
    assert len(rows) == 48 and rows[0]["messages"][-1]["role"] == "assistant"
    assert (asked["fit"], asked["within"]) == ("1MB", "1m")


@given(st.lists(st.sampled_from("abc"), min_size=30, max_size=80), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_lessons_are_divided_alike_over_the_labels(answers, seed):
    lessons = [Lesson(str(number), answer) for number, answer in enumerate(answers)]
    taught, held = divided(lessons, Training(held_out=0.25, seed=seed))
    assert {lesson.text for lesson in taught} | {lesson.text for lesson in held} == {lesson.text for lesson in lessons}
    assert not {lesson.text for lesson in taught} & {lesson.text for lesson in held}
    for answer in set(answers):
        assert sum(one.answer == answer for one in held) == round(0.25 * answers.count(answer))


def test_few_rows_are_taken_evenly():
    lessons = [Lesson(str(number), "rare" if number < 20 else "common") for number in range(200)]
    taught, held = divided(lessons, Training(rows=40))
    assert [sum(one.answer == answer for one in taught) for answer in ("rare", "common")] == [16, 24]
    assert len(held) == 40


def test_bad_rows_are_refused():
    few = [Record(f"line {number}", {"text": "same", "label": "a"}) for number in range(50)]
    with pytest.raises(InvalidInput, match="1 different rows"):
        read_lessons(Sentiment(), few)
    with pytest.raises(InvalidInput, match="no field 'label'"):
        read_lessons(Sentiment(), [Record("line 1", {"text": "x"})])
    one = [Lesson(str(number), "a") for number in range(30)]
    with pytest.raises(InvalidInput, match="All rows have the label"):
        with_labels(Sentiment(), one)


def test_labels_of_the_rows_join_those_that_were_said():
    lessons = [Lesson("1", "positive"), Lesson("2", "meh")]
    assert with_labels(Sentiment(), lessons).labels == ("positive", "meh")


def test_figures_stand_beside_the_commonest_label():
    rows = [[0.0, 2.0], [2.0, 0.0], [0.0, 2.0], [0.0, 2.0]] * 8
    figures, calibration = label_figures(rows, [1, 0, 1, 1] * 8, ["a", "b"])
    assert figures["accuracy"] == 1.0 and figures["majority"] == {"accuracy": 0.75, "macro_f1": pytest.approx(3 / 7)}
    assert calibration is not None and figures["confusion"] == [[8, 0], [0, 24]]
    lone, none = label_figures([[0.0, 1.0]] * 4, [1] * 4, ["a", "b"])
    assert none is None and lone["accuracy"] == 1.0 and lone["calibration_error"] is None
