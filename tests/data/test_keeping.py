import json

import pytest

from smidgen.data.curation import Curation, describe
from smidgen.data.keeping import keep, sheet_beside
from smidgen.data.loading import load
from smidgen.data.remembering import RememberingWriter
from smidgen.data.rows import Corpus, Message, Row
from smidgen.errors import InvalidInput

ROWS = (
    Row("naïve 日本語 \u2028 line, and \ud800 alone"),
    Row("win a prize", label="spam"),
    Row(prompt="2 + 2 is what?", completion="4, of course"),
    Row(messages=(Message("user", "Good day to you"), Message("assistant", "And to you"))),
)


def test_rows_of_every_shape_are_read_back_as_they_were(tmp_path):
    corpus, sheet = describe(Corpus("all", ROWS), Curation(minimum_words=0))
    path = tmp_path / "deep" / "all.jsonl"
    assert keep(corpus, sheet, path) == sheet_beside(path)
    found = load(path)
    assert found.sha256 == corpus.sha256 == sheet.sha256
    assert "日本語" in path.read_text(encoding="utf-8") and len(path.read_bytes().split(b"\n")) == 5
    assert corpus.sha256 in sheet_beside(path).read_text(encoding="utf-8")


def test_what_cannot_be_written_is_said(tmp_path):
    corpus, sheet = describe(Corpus("all", ROWS[1:2]), Curation())
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidInput, match="cannot be written"):
        keep(corpus, sheet, tmp_path / "file" / "all.jsonl")


class Counting:
    def __init__(self):
        self.asked = []

    def write(self, prompt, seed):
        self.asked.append(prompt)
        return f"{prompt} {seed}"

    def score(self, prompt, text):
        self.asked.append(text)
        return -1 / 3


def test_answers_are_remembered_over_a_kill(tmp_path):
    path, writer = tmp_path / "notes" / "answers.jsonl", Counting()
    first = RememberingWriter(writer, path)
    assert [first.write("a", 1), first.write("a", 2), first.score("a", "b"), first.write("a", 1)] == [
        *("a 1", "a 2"),
        *(-1 / 3, "a 1"),
    ]
    assert writer.asked == ["a", "a", "b"]
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    second = RememberingWriter(writer, path)
    assert second.write("a", 2) == "a 2" and writer.asked == ["a", "a", "b"]
    assert second.score("a", "b") == -1 / 3 and writer.asked == ["a", "a", "b", "b"]
    assert path.read_bytes() == whole and all(map(json.loads, whole.splitlines()))
    path.write_bytes(whole[:-1])  # whole but for its end: asked once more rather than joined to the next
    assert RememberingWriter(writer, path).score("a", "b") == -1 / 3 and path.read_bytes() == whole
