"""Weaknesses: every one holds the contract on a real tiny model, and says of made-up observations what they mean."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest

from smidgen.errors import InvalidInput, ReferenceNotFound, Unsupported
from smidgen.evaluate import weaknesses
from smidgen.evaluate.examine import Examination, default_subjects, examine
from smidgen.evaluate.examined import Examined, Subjects
from smidgen.evaluate.findings import Finding
from smidgen.evaluate.skills import EACH, names, questions
from smidgen.evaluate.weaknesses import _recall, long_range, pairs, turns
from smidgen.evaluate.weaknesses._gap import Gap
from smidgen.evaluate.weaknesses.capacity import Capacity
from smidgen.evaluate.weaknesses.coherence import Coherence
from smidgen.evaluate.weaknesses.long_range import LongRange
from smidgen.evaluate.weaknesses.off_domain import OffDomain
from smidgen.evaluate.weaknesses.overfitting import Overfitting
from smidgen.evaluate.weaknesses.repetition import Repetition, loops
from smidgen.evaluate.weaknesses.robustness import Robustness
from smidgen.evaluate.weaknesses.turns import Turns
from smidgen.evaluate.windows import Text


@pytest.fixture(scope="module")
def subjects(text: Text, source) -> Subjects:
    half = len(text.content) // 2
    texts = Text("held", text.content[half:]), Text("taught", text.content[:half])
    return Subjects(*texts, 2, 512, judge=str(source.path))


@pytest.fixture(scope="module")
def examined(source, noisy, subjects) -> list[Examination]:
    return examine(str(noisy.path), against=str(source.path), subjects=subjects, threads=1)


@pytest.mark.parametrize("name", weaknesses.names())
def test_each_is_measured_with_an_interval_and_a_sentence(name: str, examined: list[Examination]) -> None:
    one = next(each for each in examined[0].findings if each.name == name)
    assert one.value is not None and one.low is not None and one.high is not None and one.items > 0
    assert all(math.isfinite(each) for each in (one.value, one.low, one.high))
    assert one.low <= one.value <= one.high
    assert one.sentence[0].isupper() or one.sentence[0].isdigit()
    assert one.sentence.endswith(".") and len(one.sentence.split()) > 6
    assert Finding.from_dict(one.to_dict()) == one


def test_every_weakness_is_looked_for(examined: list[Examination]) -> None:
    assert len(weaknesses.names()) == 9
    assert sorted(each.name for each in examined[0].findings) == sorted(weaknesses.names())


def test_a_model_against_itself_lost_nothing(source, subjects) -> None:
    only = ["capacity", "off-domain", "overfitting"]
    (found,) = examine(str(source.path), against=str(source.path), subjects=subjects, only=only, threads=1)
    assert [(each.value, each.weak) for each in found.findings] == [(0.0, False)] * 3


def test_what_a_server_cannot_say_is_said_not_to_be_measured(subjects: Subjects) -> None:
    echo = Examined("echo", None, reference="echo", context=None, chats=True, longest=2048)
    with echo:
        seen = {name: each.observe(echo, subjects) for name, each in weaknesses.chosen() if not each.needs_likelihoods}
    assert set(seen) == {"coherence", "long_range", "pairs", "repetition", "turns"}
    assert seen["coherence"] == [False] * 6, "what is echoed is too short to have an order"
    assert sorted(seen["turns"]) == [2, 4, 8] and sum(map(sum, seen["turns"].values())) == 0
    assert sorted(seen["pairs"]) == [1024, 2048] and sum(map(sum, seen["pairs"].values())) == 0
    assert not Repetition().judge(seen["repetition"], None).weak


class Telling:
    """A judge to whom a text is the likelier the fewer of its numbered sentences stand out of order."""

    name, scores = "telling", True

    def bits_of(self, text):
        numbers = [int(word) for word in text.split() if word.isdigit()]
        return sum(one > two for one, two in pairwise(numbers))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


def test_texts_hold_together_where_the_judge_finds_their_order_likeliest(subjects, monkeypatch) -> None:
    monkeypatch.setattr("smidgen.evaluate.examine.open_examined", lambda *words: Telling())
    steps = [f"This is step {number} ." for number in range(6)]
    told = {True: " ".join(steps), False: " ".join(reversed(steps))}
    for follows, text in told.items():
        with Examined("writer", None, reference="echo", context=None, chats=True) as writer:
            monkeypatch.setattr(writer, "write", lambda messages, tokens, text=text: (text, False))
            assert Coherence().observe(writer, subjects) == [follows] * 6
    assert Coherence().judge([True] * 6, None).weak is False and Coherence().judge([False] * 6, [True]).weak
    with pytest.raises(Unsupported, match="--judge"):
        Coherence().observe(writer, Subjects(subjects.text))


def test_unknown_names_and_missing_texts_are_told(subjects: Subjects, source) -> None:
    with pytest.raises(ReferenceNotFound, match="Did you mean 'turns'"):
        examine(str(source.path), only=["turn"])
    with pytest.raises(InvalidInput, match="at least 2 and 64"):
        default_subjects(windows=1)
    untold = Subjects(subjects.text, None, 2, 512)
    (found,) = examine(str(source.path), subjects=untold, only=["overfitting"], threads=1)
    assert found.findings[0].value is None and "--trained-on" in found.findings[0].sentence


def test_own_text_is_not_held_against_training_text_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("Some words of my own.")
    assert default_subjects([tmp_path / "own.txt"]).trained_on is None
    assert default_subjects().trained_on is not None


def test_questions_are_the_same_every_time_each_with_one_right_ending() -> None:
    assert questions() == questions() and len(questions()) == EACH * len(names())
    assert len({(each.skill, each.prompt) for each in questions()}) == len(questions())
    for each in questions():
        assert len(set(each.endings)) == len(each.endings) > each.right >= 0
    for each in questions(["arithmetic"]):
        one, two = each.prompt.rpartition(". ")[2].removesuffix(" =").split(" + ")
        assert [int(ending) == int(one) + int(two) for ending in each.endings].count(True) == 1
        assert int(each.endings[each.right]) == int(one) + int(two)


def test_everything_hidden_is_in_the_text_and_spread_over_it() -> None:
    task = long_range.hide("A plain word or two. " * 50, 8000, 0)
    places = [task.text.index(f"{ask.strip()}{thing}.") for ask, thing in task.asked]
    assert len(places) == _recall.ASKED and places == sorted(places)
    assert places[0] < 0.1 * len(task.text) and places[-1] > 0.9 * len(task.text)
    listed = pairs.listed(20_000, 0)
    assert all(f"{ask.strip()}{thing}" in listed.text for ask, thing in listed.asked)
    keys = [line.partition(":")[0] for line in listed.text.splitlines()]
    assert len(set(keys)) == len(keys) > 400


def test_a_conversation_gives_the_fact_in_its_first_turn_only_and_asks_in_the_right_one() -> None:
    told = turns.conversation(("Rosa", "Lisbon", "Biko"), 8, "What is my name?")
    assert [each.role for each in told] == ["user", "assistant"] * 7 + ["user"]
    assert ["Rosa" in each.content for each in told].count(True) == 1 and "Rosa" in told[0].content


@pytest.mark.parametrize(
    ("text", "looped"),
    [
        ("Once. " + "The cat sat on the mat. " * 4, True),
        ("Once. " + "The cat sat on the mat. " * 2, False),
        ("a" * 59, False),
        ("a" * 61, True),
        ("1. One.\n2. Two.\n3. Three.\n4. Four.\n5. Five.\n6. Six.\n7. Seven.", False),
        ("The cat sat on the mat. " * 9 + "Then it stood up and went away, and nobody saw it since.", False),
        ("", False),
    ],
)
def test_a_loop_is_a_passage_over_and_over_up_to_the_end(text: str, looped: bool) -> None:
    assert loops(text) is looped


def test_only_answers_that_the_limit_ended_are_loops() -> None:
    loop = "The cat sat on the mat. " * 9
    found = Repetition().judge([(loop, True)] * 6 + [(loop, False)] * 6, [(loop, True)] * 12)
    assert found.value == 0.5 and found.weak and "6 of 12" in found.sentence and "100%" in found.sentence


def test_lost_skills_are_named_and_chance_is_not() -> None:
    before = {"facts": [1] * 20, "order": [1] * 20, "copying": [1, 0] * 10}
    found = Capacity().judge({"facts": [1] * 8 + [0] * 12, "order": [1] * 20, "copying": [0, 1] * 10}, before)
    assert found.weak and "Clearly lost: facts (-60)." in found.sentence and "20 points fewer" in found.sentence
    assert found.points[0].at == "facts" and found.points[0].value == pytest.approx(-60)
    same = Capacity().judge({"facts": [1] * 19 + [0], "order": [1] * 20, "copying": [1, 0] * 10}, before)
    assert not same.weak and "No single skill is clearly lost; the largest change is facts's." in same.sentence


def test_noise_is_judged_in_pairs_and_only_where_there_is_something_to_lose() -> None:
    clean = [1] * 60 + [0] * 20
    seen = {"clean": clean, "typos": [0] * 20 + clean[20:], "ocr": clean}
    found = Robustness().judge(seen, {**seen, "typos": clean})
    assert found.value == pytest.approx(25) and found.weak and "cost its source 0 points" in found.sentence
    assert "answers 50% of them rightly instead of 75%" in found.sentence
    guessing = Robustness().judge({"clean": [1, 0, 0, 0] * 20, "typos": [0] * 80}, None)
    assert guessing.weak is None and "hardly cost it more" in guessing.sentence


def test_only_what_goes_beyond_the_source_is_learnt_by_heart() -> None:
    source = Gap((1.0, 1.1, 0.9, 1.0), (1.5, 1.6, 1.4, 1.5), ("taught", "held"))
    harder = Overfitting().judge(source, None)
    assert harder.value == pytest.approx(0.5) and harder.weak is None and "--against" in harder.sentence
    assert Overfitting().judge(source, source).weak is False
    learnt = Gap(tuple(each - 0.4 for each in source.near), source.far, source.names)
    found = Overfitting().judge(learnt, source)
    assert found.value == pytest.approx(0.4) and found.weak and "by heart" in found.sentence


def test_the_domains_that_lost_most_are_named() -> None:
    source = Gap((1.0, 1.1), (1.0,) * 10, ("own", "other domains"))
    worse = (1.5, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.4, 1.1)
    found = OffDomain().judge(Gap((1.0, 1.1), worse, source.names), source)
    assert found.weak and "story and German lost most" in found.sentence


def test_forgetting_is_weak_only_where_the_interval_says_so() -> None:
    seen = {1024: [1] * 20, 2048: [1] * 12 + [0] * 8}
    found = LongRange().judge(seen, {2048: [1] * 20})
    assert found.value == 0.6 and found.weak and "Its source finds 100%." in found.sentence
    assert [point.at for point in found.points] == [1024, 2048]
    assert Turns().judge({2: [1] * 12, 8: [1] * 10 + [0] * 2}, None).weak is False
