import itertools
import random

import pytest

from smidgen.data.rows import Corpus, Message, Row
from smidgen.errors import InvalidInput, ReferenceNotFound
from smidgen.shrink.finetune import objectives
from smidgen.shrink.finetune.objectives.self_supervised import SelfSupervised
from smidgen.shrink.finetune.objectives.supervised import Supervised
from smidgen.shrink.finetune.objectives.unsupervised import Unsupervised


@pytest.fixture(scope="module")
def tokenizer(published_tokenizer):
    return published_tokenizer("smollm", 400)


def spoken(tokenizer, document, learned=True):
    """What is learned of a document, as text."""
    return tokenizer.decode(
        [t for t, wanted in zip(document.ids, document.supervised, strict=True) if wanted is learned]
    )


def documents(objective, tokenizer, *rows, length=128, seed=0):
    return list(objective.documents(Corpus("rows", rows), tokenizer, length=length, seed=seed))


def test_only_the_answer_is_learned_and_the_template_is_the_tokenizers(tokenizer):
    (one,) = documents(Supervised(), tokenizer, Row(prompt="2 + 2?", completion="4"))
    assert tokenizer.decode(one.ids) == "<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n"
    assert spoken(tokenizer, one).endswith("4<|im_end|>") and "2 + 2" not in spoken(tokenizer, one)


def test_every_turn_of_the_assistant_is_learned(tokenizer):
    turns = [("user", "Hi"), ("assistant", "Good"), ("user", "And?"), ("assistant", "Bad")]
    (one,) = documents(Supervised(), tokenizer, Row(messages=tuple(Message(*turn) for turn in turns)))
    learned = spoken(tokenizer, one)
    assert "Good<|im_end|>" in learned and "Bad<|im_end|>" in learned
    assert "Hi" not in learned and "And" not in learned


def test_a_labelled_text_is_asked_about_and_answered_by_its_label(tokenizer):
    (one,) = documents(Supervised("Spam or ham?"), tokenizer, Row("Win cash", label="spam"))
    assert "user\nSpam or ham?\n\nWin cash<|im_end|>" in tokenizer.decode(one.ids)
    assert spoken(tokenizer, one).endswith("spam<|im_end|>")


def test_of_a_long_row_the_end_is_kept_whole(tokenizer):
    row = Row(prompt="word " * 200 + "the very end", completion="yes")
    found = documents(Supervised(), tokenizer, row, length=48)
    assert len(found) == 1 and len(found[0].ids) == 48
    assert "the very end" in tokenizer.decode(found[0].ids) and "yes<|im_end|>" in spoken(tokenizer, found[0])


def test_a_long_answer_is_learned_in_pieces(tokenizer):
    row = Row(prompt="Tell.", completion=" ".join(f"n{number}" for number in range(90)))
    found = documents(Supervised(), tokenizer, row, length=48)
    learned = "".join(spoken(tokenizer, each) for each in reversed(found))
    assert len(found) > 3 and "n0" in learned and "n89<|im_end|>" in learned


def test_text_without_an_answer_is_refused(tokenizer):
    with pytest.raises(InvalidInput, match="unsupervised"):
        documents(Supervised(), tokenizer, Row("only text", origin="notes.txt"))


def test_plain_text_is_learned_whole_and_closed(tokenizer):
    text = "One sentence. " * 40
    found = documents(Unsupervised(), tokenizer, Row(text), length=64)
    assert "".join(tokenizer.decode(each.ids) for each in found) == text + "<|im_end|>"
    assert all(each.supervised == [False] + [True] * (len(each.ids) - 1) for each in found)


def test_the_middle_is_learned_and_fits_between_prefix_and_suffix(tokenizer):
    text = "The quick brown fox jumps over the lazy dog. It was never seen again by anyone."
    (one,) = documents(SelfSupervised("fill_in_the_middle"), tokenizer, Row(text), length=400, seed=1)
    whole = tokenizer.decode(one.ids)
    prefix, _, rest = whole.removeprefix("<fim_prefix>").partition("<fim_suffix>")
    suffix, _, middle = rest.partition("<fim_middle>")
    assert middle == spoken(tokenizer, one) and middle.endswith("<|im_end|>")
    assert prefix + middle.removesuffix("<|im_end|>") + suffix == text


def test_spans_put_back_in_their_marks_give_the_text(tokenizer):
    text = "The quick brown fox jumps over the lazy dog. It was never seen again by anyone."
    (one,) = documents(SelfSupervised("span", share=0.3), tokenizer, Row(text), length=400)
    whole = tokenizer.decode(one.ids).removesuffix("<|im_end|>")
    count = whole.count("<extra_id_") // 2
    assert count >= 2
    at = whole.rindex("<extra_id_0>")
    asked, answered = whole[:at], whole[at:]
    for number in range(count):
        run = answered.partition(f"<extra_id_{number}>")[2].partition("<extra_id_")[0]
        asked = asked.replace(f"<extra_id_{number}>", run)
    assert asked == text


def test_spans_are_apart_inside_and_of_the_share():
    for seed in range(30):
        found = SelfSupervised("span", share=0.25).spans(40, random.Random(seed))
        assert sum(stop - start for start, stop in found) == 10
        assert found[0][0] >= 0 and found[-1][1] <= 40
        assert all(one[1] < other[0] for one, other in itertools.pairwise(found))


def test_next_sentences_are_half_neighbours_and_the_answer_is_right(tokenizer):
    rows = [Row(f"Place {number} is green. Then {number} turns to red.") for number in range(60)]
    found = documents(SelfSupervised("next_sentence"), tokenizer, *rows, length=160)
    right = 0
    for each in found:
        whole, learned = tokenizer.decode(each.ids), spoken(tokenizer, each)
        first, second = (part.split()[1] for part in whole.split("\n")[:2])
        answer = "yes" if first == second else "no"
        right += answer == "yes"
        assert f"Answer: {answer}<|im_end|>" in whole and learned.endswith(f" {answer}<|im_end|>")
        assert ("turns" in learned) == (answer == "yes")
    assert len(found) == 60 and 15 < right < 45


@pytest.mark.parametrize(
    ("name", "options", "part"),
    [
        ("supervized", {}, "supervised"),
        ("supervised", {"instructions": "x"}, "'instruction'"),
        ("self_supervised", {"task": "spam"}, "'span'"),
        ("self_supervised", {"share": 0.9}, "share above 0"),
    ],
)
def test_what_does_not_exist_is_named(name, options, part):
    with pytest.raises((InvalidInput, ReferenceNotFound)) as caught:
        objectives.build(name, options)
    assert part in str(caught.value)


def test_nothing_to_learn_from_is_said(tokenizer):
    with pytest.raises(InvalidInput, match="nothing to learn from"):
        objectives.pack(SelfSupervised(), Corpus("empty", (Row("a"),)), tokenizer, length=64, seed=0)
    with pytest.raises(InvalidInput, match="at least 16"):
        objectives.pack(Unsupervised(), Corpus("x", (Row("a b c"),)), tokenizer, length=4, seed=0)
