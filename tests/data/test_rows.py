import pytest

from smidgen.data.rows import Corpus, Message, Row
from smidgen.errors import InvalidInput


@pytest.mark.parametrize(
    "fields", [{}, {"text": "a", "prompt": "b", "completion": "c"}, {"prompt": "a"}, {"completion": "a"}]
)
def test_a_row_has_exactly_one_shape(fields: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match=r"exactly one shape \(x, line 2\)"):
        Row(**fields, origin="x, line 2")


def test_the_digest_follows_the_content_and_not_the_name() -> None:
    rows = (Row("a"), Row("b", label="x"))
    digest = Corpus("one", rows).sha256
    assert digest == Corpus("two", (Row("a", origin="elsewhere"), Row("b", label="x"))).sha256
    others = [rows[::-1], rows[:1], (Row("a"), Row("b")), (Row("ab", label="x"),)]
    assert digest not in {Corpus("one", other).sha256 for other in others}


def test_all_shapes_have_words_and_turns() -> None:
    turns = (Message("user", "a"), Message("assistant", "b"))
    assert Row(messages=turns).turns == Row(prompt="a", completion="b").turns == turns
    assert Row(messages=turns).plain == Row(prompt="a", completion="b").plain == "a\nb"
    assert Row("a").turns == ()


def test_labelled_means_every_row() -> None:
    assert Corpus("x", (Row("a", label="b"),)).labelled
    assert not Corpus("x", (Row("a", label="b"), Row("c"))).labelled
    assert not Corpus("x", ()).labelled
