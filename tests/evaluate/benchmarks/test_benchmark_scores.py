"""Figures of single answers, worked out by hand."""

import math

import pytest

from smidgen.data.records import Record
from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.evaluate import benchmarks
from smidgen.evaluate.answering import Writing
from smidgen.evaluate.benchmarks._benchmark import Answer
from smidgen.evaluate.benchmarks.classification import macro_f1, matrix
from smidgen.inference.engine import open_engine


def asked(name, **fields):
    benchmark = benchmarks.find(name)
    return benchmark, benchmark.question(Record("line 1", fields))


def test_lengths_are_characters_and_bytes():
    arc, question = asked("arc", query="Question: Which?", choices=["日本", "a fish"], gold=0)
    # Per character -6/2 and -9/6, per byte -6/6 and -9/6.
    assert arc.score(question, Answer((-6.0, -9.0))) == {"acc": 1, "acc_norm": 0, "acc_bytes": 1}


def test_the_first_of_equal_choices_is_taken():
    boolq, question = asked("boolq", passage="p", question="q", label=0)
    assert boolq.score(question, Answer((-1.0, -1.0))) == {"acc": 1}


def test_mc2_is_the_share_of_the_true_choices():
    targets = {"choices": ["a", "b", "c"], "labels": [1, 0, 1]}
    task, question = asked("truthfulqa", question="q?", mc1_targets={"x": 1, "y": 0}, mc2_targets=targets)
    values = (-2.0, -1.0, *(math.log(each) - 2000 for each in (0.1, 0.3, 0.4)))
    assert task.score(question, Answer(values)) == {"mc1": 0, "mc2": pytest.approx(0.5 / 0.8)}


@pytest.mark.parametrize(
    ("text", "strictly", "flexibly"),
    [
        ("so 1,000 in all\n#### 1,000", 1, 1),
        ("so it is $1,000.", 0, 1),
        ("#### 1000 and then 7", 1, 0),
        ("it is -1000", 0, 0),
        ("no number", 0, 0),
    ],
)
def test_numbers_of_word_problems(text, strictly, flexibly):
    task, question = asked("gsm8k", question="q", answer="10 * 100\n#### 1,000")
    assert task.score(question, Answer(text=text)) == {"exact_match": strictly, "exact_match_flexible": flexibly}


def test_perplexity_is_that_of_the_words():
    task, question = asked("lambada", text="one two three")
    answers = [Answer((math.log(0.5),), (True,)), Answer((math.log(0.125),), (False,))]
    assert task.summary([question] * 2, answers)["perplexity"] == pytest.approx(4)


@pytest.mark.parametrize(
    ("name", "answer", "text", "right"),
    [
        ("exact", "Paris", " Paris\n", 1),
        ("exact", "Paris", "paris", 0),
        ("exact:ignore_case=true", "Paris", "paris", 1),
        ("contains", "Paris", "It is PARIS.", 1),
        ("contains", ["Rome", "Roma"], "It is Paris.", 0),
        ("regex", r"\b\d{4}\b", "in 1889", 1),
        ("regex", r"\b\d{4}\b", "in 18899", 0),
        ("numeric", "3.14", "about 3.15", 0),
        ("numeric:tolerance=0.02", "3.14", "from 1 to 3.15", 1),
        ("numeric", 1250, "1,250", 1),
        ("numeric", 1250, "none", 0),
    ],
)
def test_written_answers(name, answer, text, right):
    task, question = asked(name, prompt="?", answer=answer)
    assert task.score(question, Answer(text=text)) == {"acc": right}


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("exact:case=true", ReferenceNotFound),
        ("arc:source=1", ReferenceNotFound),
        ("exact:ignore_case=3", InvalidInput),
        ("numeric:tolerance=x", InvalidInput),
    ],
)
def test_options_that_are_not_there(name, error):
    with pytest.raises(error, match="option"):
        benchmarks.find(name)


def test_macro_f1_counts_labels_alike():
    counts = matrix([0, 0, 0, 0, 1, 2], [0, 0, 0, 1, 1, 0], 3)
    assert counts == [[3, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert macro_f1(counts) == pytest.approx((6 / 8 + 2 / 3 + 0) / 3)


def test_an_engine_writes_behind_the_prompt():
    _, question = asked("exact", prompt="Good day.", answer="Good day.")
    with open_engine("echo") as engine:
        (answer,) = Writing(engine, 16, ("\n\n",)).answer("", [question])
    assert answer.text.strip() == "Good day."


def test_likeness_to_references_is_that_of_sacrebleu():
    task, first = asked("chrf", prompt="?", answer="the cat sat on the mat")
    _, second = asked("chrf", prompt="?", answers=["a dog", "one dog"])
    answers = [Answer(text=" the cat sat on a mat\n"), Answer(text="one dog")]
    assert task.score(second, answers[1]) == {"chrf": pytest.approx(1)}
    assert 0.5 < task.score(first, answers[0])["chrf"] < 1
    assert 0.5 < task.summary([first, second], answers)["corpus_chrf"] < 1
    task, first = asked("bleu", prompt="?", answer="the cat sat on the mat")
    # 5, 3, 2, 1 of 6, 5, 4, 3 runs of 1 to 4 words are in the reference, and the lengths are equal.
    expected = (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25
    assert task.score(first, answers[0])["bleu"] == pytest.approx(expected)
    assert task.summary([first], answers[:1])["corpus_bleu"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "valid", "json"),
    [
        ('Sure: {"age": 3} and {', 1, 1),
        ('```json\n{"age": "3"}\n```', 0, 1),
        ("[1]", 0, 1),
        ('{"age": 3', 0, 0),
        ("[" * 5000, 0, 0),
    ],
)
def test_json_in_an_answer_is_held_against_the_schema(text, valid, json):
    schema = {"type": "object", "required": ["age"], "properties": {"age": {"type": "integer"}}}
    task, question = asked("json_schema", prompt="?", schema=schema)
    assert task.score(question, Answer(text=text)) == {"valid": valid, "json": json}


@pytest.mark.parametrize(
    ("schema", "part"), [("{", "no JSON"), ([1], "no object"), ({"type": "number of"}, "cannot be: .*number of")]
)
def test_schemas_that_cannot_be(schema, part):
    with pytest.raises(InvalidInput, match=rf"line 1 .*{part}"):
        asked("json_schema", prompt="?", schema=schema)


def test_what_a_schema_refers_to_elsewhere_is_not_fetched():
    task, question = asked("json_schema", prompt="?", schema={"$ref": "http://127.0.0.1:9/schema.json"})
    assert task.score(question, Answer(text="{}")) == {"valid": 0, "json": 1}


def test_a_question_may_be_put_as_a_message():
    _, plain = asked("exact", prompt="Good day.", answer="Good day.")
    _, message = asked("exact:chat=true", prompt="Good day.", answer="Good day.")
    assert message.message and not plain.message
    with open_engine("echo") as engine:
        (answer,) = Writing(engine, 16, ()).answer("", [message])
    assert answer.text.strip() == "Good day."
