"""What holds for every task."""

import dataclasses
import json

import pytest

from smidgen import tasks
from smidgen.tasks.opened_model import OpenedModel
from smidgen.tasks.task import kind_of, options_of

NEEDED = {
    "classify": {"labels": ("a", "b")},
    "answer": {"question": "Who whistled?"},
    "recommend": {"items": ("A brisk walk.", "A cup of tea.")},
}
TEXT = "The brisk postman whistled loudly. Nobody heard him. Ann Lee wrote to ann@example.org."


@pytest.fixture(scope="module")
def echo():
    with OpenedModel("echo") as model:
        yield model


def test_how_many_tasks_there_are():
    assert len(tasks.names()) == 15


@pytest.fixture(params=tasks.names())
def name(request):
    return request.param


def test_it_is_a_frozen_dataclass_that_says_what_it_does(name):
    kind = tasks.find(name)
    assert dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen
    about = kind.__doc__
    assert all(f"        {option}:" in about or f"    {option}:" in about for option in options_of(kind))
    assert ">>>" in about
    fields = {field.name for field in dataclasses.fields(kind)}
    assert {*kind.row_fields, *kind.local_fields, *kind.defines} <= fields


def test_what_is_written_is_the_text_of_the_result(name, echo):
    task = tasks.build(name, NEEDED.get(name, {}))
    working, pieces = task.run(TEXT, echo), []
    while True:
        try:
            pieces.append(next(working))
        except StopIteration as end:
            result = end.value
            break
    if task.streams:
        assert pieces and "".join(pieces).strip() == result["text"]
    assert json.loads(json.dumps(result)) == json.loads(json.dumps(task.done(TEXT, echo)))
    assert isinstance(task.shown(result), str) and task.whole(result)


def test_several_texts_are_done_as_each_alone(name, echo):
    task = tasks.build(name, NEEDED.get(name, {}))
    texts = [TEXT, "Another brisk sentence whistled here."]
    assert task.many(texts, echo) == [task.done(text, echo) for text in texts]


def test_paths_and_programs_are_local(name):
    kind = tasks.find(name)
    risky = {"deck", "memory", "run_it"} & {field.name for field in dataclasses.fields(kind)}
    assert risky <= set(kind.local_fields)


def test_every_option_can_be_set_or_is_no_person_s(name):
    assert {kind_of(field) for field in dataclasses.fields(tasks.find(name))} <= {
        "str",
        "int",
        "float",
        "bool",
        "list",
        None,
    }
