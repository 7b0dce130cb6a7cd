"""What each task makes of a model's words and likelihoods."""

import datetime
import json

import pytest

from smidgen import tasks
from smidgen.errors import DamagedFile, InvalidInput, RecipeError, ReferenceNotFound, Unsupported
from smidgen.tasks.calibration import Calibration
from smidgen.tasks.marked_diff import changes, marked
from smidgen.tasks.opened_model import OpenedModel

STORY = "The lighthouse was built in 1874 by Ann Lee. A storm broke its lamp in 1921. The museum opens on Sundays."


def last(turns, manner):
    return turns[-1].content


def test_the_likeliest_label_wins_over_what_the_model_prefers(scripted):
    liking = {"Text: spam!": {"spam": -2.0, "ham": -1.5}}
    model = scripted(likelihood=lambda asked, label: liking.get(asked, {"spam": -4.0, "ham": -1.0})[label])
    result = tasks.classify("spam!", model=model, labels=("spam", "ham"))
    assert result["label"] == "spam" and result["confidence"] > 0.9 and not result["calibrated"]
    assert sum(result["scores"].values()) == pytest.approx(1)


def test_labels_of_many_texts_are_those_of_each(scripted):
    model = scripted(likelihood=lambda asked, label: -float(len(asked) % (2 + ord(label[0]) % 3)))
    texts = [f"text {'x' * number}" for number in range(35)]
    together = tasks.sentiment(texts, model=model)
    assert together == [tasks.sentiment(text, model=model) for text in texts]
    assert len({each["label"] for each in together}) == 2


def test_a_fitted_calibration_decides(scripted):
    calibration = Calibration(("a", "b"), 1.0, (0.0, 3.0), (0.5, 0.5), 40)
    result = tasks.classify("x", model=scripted(), labels=("a", "b"), calibration=calibration)
    assert result["label"] == "b" and result["calibrated"]


@pytest.mark.parametrize("labels", [("a",), ("a", "a"), ("a", " "), tuple(map(str, range(65)))])
def test_impossible_labels_are_refused(scripted, labels):
    with pytest.raises(InvalidInput, match="label"):
        tasks.classify("x", model=scripted(), labels=labels)


def test_a_text_breaks_the_policy_by_all_that_is_not_acceptable(scripted):
    likely = {"fine": -3.0, "rude": -1.0, "cruel": -2.0}
    model = scripted(
        answer=lambda turns, manner: "It insults. More words here.",
        likelihood=lambda asked, label: likely[label] if "idiot" in asked else -1.0,
    )
    options = {"labels": tuple(likely), "policy": "Be kind.", "model": model}
    result = tasks.moderate("You idiot", **options)
    assert result["flagged"] and result["category"] == "rude"
    assert result["score"] == pytest.approx(1 - result["scores"]["fine"])
    assert result["rationale"].startswith("It insults.")
    assert "Be kind" in model.asked[0][0].content
    assert not tasks.moderate("You idiot", **options, threshold=0.99, rationale=False)["flagged"]


def test_a_long_text_is_summed_up_in_parts_that_fit(scripted):
    text = " ".join(f"Sentence number {number} says a little." for number in range(400))
    model = scripted(answer=lambda turns, manner: "A short part. " * 30, context=400)
    result = tasks.summarize(text, model=model, words=12)
    assert result["parts"] > 5 and result["rounds"] > 1 and result["words"] <= 12
    read = " ".join(turns[-1].content for turns in model.asked)
    assert all(f"number {number} says" in read for number in range(400))


def test_a_translation_keeps_the_paragraphs(scripted):
    model = scripted(answer=lambda turns, manner: f" <{turns[-1].content}> ")
    assert tasks.translate("One.\n\nTwo.\nThree.", model=model, to="French")["text"] == "<One.>\n\n<Two.>\n<Three.>"
    assert "French" in model.asked[0][0].content


def test_a_long_paragraph_is_rewritten_in_parts(scripted):
    text = " ".join(f"Sentence {number} here." for number in range(200))
    assert tasks.rewrite(text, model=scripted(answer=last, context=300))["text"] == text


def test_corrections_are_marked_and_new_texts_refused(scripted):
    answers = {
        "He go home.": '"He goes home."',
        "It is fine.": "As an AI I cannot see that.",
        "She have it.": "Corrected: She has it.",
    }
    model = scripted(answer=lambda turns, manner: answers[turns[-1].content])
    result = tasks.grammar("He go home.  It is fine.\nShe have it.", model=model)
    assert result["text"] == "He goes home.  It is fine.\nShe has it." and result["kept"] == 1
    assert result["marked"] == "He [-go-]{+goes+} home.  It is fine.\nShe [-have-]{+has+} it."


def test_changes_lead_from_one_text_to_the_other():
    before, after = "The cat sat, on a mat.", "A cat sat on the old mat."
    rebuilt = before
    for change in reversed(changes(before, after)):
        assert before[change["begin"] : change["end"]] == change["was"]
        rebuilt = rebuilt[: change["begin"]] + change["is"] + rebuilt[change["end"] :]
    assert rebuilt == after and marked("x", "x") == "x"


def test_an_answer_comes_with_its_sentence(scripted):
    model = scripted(answer=lambda turns, manner: "Ann Lee built it in 1874.")
    result = tasks.answer(STORY, model=model, question="Who built the lighthouse?")
    assert result["grounded"] and result["sentence"].startswith("The lighthouse was built")
    assert "museum opens" not in model.asked[0][-1].content  # it shares no word with the question


def test_what_the_text_does_not_say_is_never_answered(scripted):
    invented = scripted(answer=lambda turns, manner: "It was built by aliens from Mars.")
    result = tasks.answer(STORY, model=invented, question="Who built the lighthouse?")
    assert not result["grounded"] and result["text"] == "The lighthouse was built in 1874 by Ann Lee."
    nothing = tasks.answer(STORY, model=invented, question="Price of bread?")
    assert not nothing["found"] and nothing["sentence"] is None


def test_sums_are_evaluated_while_they_are_written(scripted):
    def solve(turns, manner):
        return "She has 3 * 7 = 22 apples." if not manner.begun else " apples. The answer is 21"

    result = tasks.math("Three bags of seven?", model=scripted(answer=solve))
    assert result["text"].startswith("She has 3 * 7 = 21 apples") and result["answer"] == "21"
    assert result["sums"] == [{"expression": "3 * 7", "value": "21"}]


def test_a_bare_sum_needs_no_model(scripted):
    assert tasks.math("(2 + 3) * 4 = ?", model=scripted(answer=None))["answer"] == "20"


def test_code_is_taken_out_of_an_answer_and_run(scripted):
    model = scripted(answer=lambda turns, manner: "Sure:\n```python\nassert 1 + 1 == 2\n```\nDone.")
    result = tasks.code("Add.", model=model, run_it=True)
    assert result["code"] == "assert 1 + 1 == 2" and result["outcome"]["passed"]
    wrong = scripted(answer=lambda turns, manner: "```\nassert False\n```")
    assert not tasks.code("Add.", model=wrong, run_it=True)["outcome"]["passed"]
    with pytest.raises(Unsupported, match="Only Python"):
        tasks.code("Add.", model=model, language="Rust", run_it=True)


def test_a_completion_ends_with_the_part_it_completes(scripted):
    model = scripted(answer=lambda turns, manner: "\n    return a + b\n\nprint(add(1, 2))")
    assert tasks.code("def add(a, b):\n", model=model, do="complete")["code"] == "def add(a, b):\n    return a + b\n"


def test_nearest_items_are_recommended_with_what_they_are_near_to(scripted):
    places = {"tea": [1.0, 0.0], "coffee": [0.9, 0.1], "rope": [0.0, 1.0], "chain": [0.1, 0.9], "cocoa": [0.8, 0.2]}
    model = scripted(answer=lambda turns, manner: "Both are hot.", vector=places.__getitem__)
    found = tasks.recommend("tea", model=model, items=("tea", "rope", "coffee", "chain", "cocoa"), count=2)
    assert [each["item"] for each in found["recommendations"]] == ["coffee", "cocoa"]
    assert found["recommendations"][0]["because"] == "tea" and found["recommendations"][0]["why"] == "Both are hot."
    with pytest.raises(InvalidInput, match="no items"):
        tasks.recommend("tea", model=model, items=("Tea",))


def test_words_become_exercises_and_a_deck(scripted, tmp_path):
    model = scripted(answer=lambda turns, manner: "A meaning.")
    options = {"model": model, "deck": str(tmp_path / "deck.json")}
    text = "The brisk postman walked by. Nobody whistled."
    made = tasks.vocabulary(text, **options, count=3, day="2026-01-01")
    assert made["added"] == 3 and len(made["due"]) == 3
    for each in made["exercises"]:
        assert "_____" in each["exercise"] and each["word"] in each["choices"] and each["word"] not in each["exercise"]
    word = made["exercises"][0]["word"]
    later = tasks.vocabulary("", **options, grades=(f"{word}=5",), day="2026-01-01")
    assert word not in [card["word"] for card in later["due"]] and len(later["due"]) == 2
    with pytest.raises(InvalidInput, match="cannot be understood"):
        tasks.vocabulary("", **options, grades=("brisk",))


def test_a_list_of_words_gets_sentences(scripted):
    model = scripted(answer=lambda turns, manner: f"A very {turns[-1].content.split()[-1]} day.")
    made = tasks.vocabulary("brisk\nstale", model=model)
    assert [each["exercise"] for each in made["exercises"]] == ["A very _____ day."] * 2


def test_a_chat_remembers_in_a_file(scripted, tmp_path):
    path = tmp_path / "memory.json"
    model = scripted(answer=lambda turns, manner: f"I heard {len(turns)} turns.")
    tasks.chat("I am Ada.", model=model, memory=str(path))
    tasks.chat("Who am I?", model=model, memory=str(path))
    assert [turn.content for turn in model.asked[-1][1:]] == ["I am Ada.", "I heard 2 turns.", "Who am I?"]
    path.write_text('{"turns": 1}')
    with pytest.raises(InvalidInput, match="no memory"):
        tasks.chat("Hi", model=model, memory=str(path))
    path.write_text("{")
    with pytest.raises(DamagedFile, match="no memory"):
        tasks.chat("Hi", model=model, memory=str(path))


def test_a_conversation_of_any_length_keeps_within_the_context(scripted):
    """The model itself refuses what does not fit."""

    def answer(turns, manner):
        if turns[0].content.startswith("Note what"):
            return "Ada likes tea."
        return "word " * 30

    model, memory = scripted(answer=answer, context=300), None
    for number in range(25):
        memory = tasks.chat(
            f"Message {number} " + "says a lot " * 10, model=model, remembered=memory, remember=20, tokens=60
        )["memory"]
    assert memory["summary"] == "Ada likes tea." and len(memory["turns"]) < 10
    assert "Earlier in this conversation: Ada likes tea." in model.asked[-1][0].content
    assert model.asked[-1][-1].content.startswith("Message 24")
    json.dumps(memory)


def test_a_message_larger_than_the_context_is_cut(scripted):
    model = scripted(answer=lambda turns, manner: "Yes.", context=200)
    assert tasks.chat("word " * 1000, model=model, tokens=20, remember=20)["text"] == "Yes."


def test_unknown_tasks_options_and_kinds_are_named():
    with pytest.raises(AttributeError, match="sentimnt"):
        tasks.sentimnt  # noqa: B018
    with pytest.raises(ReferenceNotFound, match="Did you mean 'sentiment'"):
        tasks.find("sentimnt")
    with pytest.raises(ReferenceNotFound, match="option of the task write"):
        tasks.build("write", {"wordz": 3})
    with pytest.raises(RecipeError, match="words must be a whole number") as found:
        tasks.build("write", {"words": "many", "kind": 3})
    assert len(found.value.problems) == 2
    with pytest.raises(RecipeError, match="list of texts"):
        tasks.build("classify", {"labels": "ab"})


def test_a_task_is_done_by_name_with_the_echo_engine():
    assert tasks.write("Rain falls.", model="echo")["text"] == "Rain falls."
    with OpenedModel("echo") as model, pytest.raises(InvalidInput, match="no text"):
        tasks.summarize("  ", model=model)


def test_a_day_is_today_unless_it_is_said(scripted, tmp_path):
    made = tasks.vocabulary("brisk\nstale", model=scripted(), deck=str(tmp_path / "deck.json"))
    assert made["due"][0]["due"] <= datetime.date.today().isoformat()
